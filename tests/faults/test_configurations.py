"""Wrong and odd configurations: each ends in one line and status 2, or is read as it is meant."""

import resource
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from projects import ROOT, snakemake

from remerge.__main__ import main

DEMO = (ROOT / "config/demo.yaml").read_text().replace("../models", str(ROOT / "models"))


def nested(count: int, opened: str, closed: str) -> str:
    return f"{DEMO}x: {opened * count}1{closed * count}\n"


def bomb(first: str, one: str) -> str:
    """Each line holds the one before nine times."""
    lines = [f"a0: &a0 {first}"]
    for i in range(1, 12):
        lines.append(f"a{i}: &a{i} " + one.replace("@", f"*a{i - 1}"))
    return DEMO + "\n".join(lines) + "\n"


FILES: dict[str, str | bytes | None] = {
    "missing": None,
    "empty": "",
    "white space": " \n\n",
    "comments": "# nothing\n",
    "a list": "- a\n- b\n",
    "a word": "hello",
    "a number": "3",
    "null": "~",
    "tabs": "base:\n\tsource: x\n",
    "Latin-1": (DEMO + "# café\n").encode("latin-1"),
    "UTF-16": DEMO.encode("utf-16"),
    "NUL": DEMO + "x: \0\n",
    "zeros": b"\0" * 5000,
    "bytes": bytes(range(256)),
    "an unknown tag": "a: !foo 3\n" + DEMO,
    "a tag of Python": DEMO + "x: !!python/object/apply:os.system ['touch hit']\n",
    "an alias of nothing": DEMO + "x: *nothing\n",
    "a list in itself": DEMO + "x: &a [*a]\n",
    "a mapping in itself": DEMO + "x: &a {b: *a}\n",
    "lists in lists": nested(3000, "[", "]"),
    "mappings in mappings": nested(2000, "{a: ", "}"),
    "a bomb of lists": bomb("[x]", "[@,@,@,@,@,@,@,@,@]"),
    "a bomb of mappings": bomb("{x: 1}", "{a: @,b: @,c: @,d: @,e: @,f: @,g: @,h: @,i: @}"),
    "a bomb of merges": bomb("{x: 1}", "{<<: [@,@,@,@,@,@,@,@,@]}"),
    "too long": DEMO + "# " + "x" * 2_000_000,
    "two documents": DEMO + "---\na: 1\n",
    "a key twice": DEMO + "seed: 1\n",
    "a key twice below": DEMO.replace("batch_size: 32", "batch_size: 32\n  batch_size: 33"),
    "a key that is a list": DEMO + "? [a]\n: 2\n",
    "a key that is a mapping": DEMO + "? {a: b}\n: 2\n",
    "a key that is a number": DEMO + "1: 2\n",
    "a parameter that is a number": DEMO.replace("- average", "- average: {1: 2, weights: [1]}"),
    "bytes for a word": DEMO.replace("level: task", "level: !!binary aGk="),
    "a set": DEMO.replace("variants:", "variants: !!set"),
    "a key that is nothing": DEMO + "~: 2\n",
    "a key of two lines": DEMO + '"a\\nb": 2\n',
    "a date that is none": DEMO + "x: 2026-13-45\n",
    "a number of 6000 figures": DEMO.replace("seed: 0", "seed: " + "9" * 6000),
    "half a letter": DEMO.replace("benchmark: demo", 'benchmark: "\\ud800"'),
    "a program": "__use_yte__: true\n__definitions__:\n  - import os; os.system('touch hit')\n" + DEMO,
    "no program either": "__use_yte__: false\n" + DEMO,
    "an include that is none": DEMO + 'include: "\\0"\n',
    "an include of itself": DEMO + "include: c.yaml\n",
}

CHANGES: dict[str, tuple[list[str], Any]] = {
    **{
        f"prompt {prompt!r}": (["tasks", "cola", "prompt"], prompt)
        for prompt in (
            "{sentence",
            "sentence}",
            "{x.y}",
            "{x.__class__}",
            "{x:d}",
            "{x:>10}",
            "{x:{y}}",
            "{x!r}",
            "{0}",
            "{}",
            "{[0]}",
            "{x[}",
            "{x[]}",
            "{x[0]y}",
            "{x[0].y}",
            3,
            None,
            ["a"],
        )
    },
    **{
        f"target {target!r}": (["tasks", "cola", "target"], target)
        for target in ("{label", "{label.real}", "{label:d}", "{}", None, 1)
    },
    **{
        f"answers {answers!r}": (["tasks", "cola", "answers"], answers)
        for answers in (["no"], ["{x", "yes"], ["{x.y}", "yes"], ["{0}", "yes"], [1, 2], "no")
    },
    "captions without an answer": (["tasks", "cola", "captions"], ["a photo"]),
    "captions of a column": (["tasks", "cola", "captions"], ["{answer} {x}"]),
    "missing: keep": (["tasks", "cola", "missing"], "keep"),
    **{f"seed {seed}": (["seed"], seed) for seed in (-1, 2**32, 1.5, float("nan"), float("inf"), "x")},
    **{f"threads {threads}": (["threads"], threads) for threads in (0, -1, 10**6, 2**64, 1.5, float("nan"))},
    **{
        f"{'.'.join(keys)} {value}": (keys, value)
        for keys in (
            ["finetune", "learning_rate"],
            ["finetune", "weight_decay"],
            ["finetune", "warmup"],
            ["finetune", "penalty"],
            ["base", "miniature", "learning_rate"],
        )
        for value in (float("nan"), float("inf"), -1.0, 1e9, "fast")
    },
    **{
        f"{'.'.join(keys)} {value}": (keys, value)
        for keys in (
            ["finetune", "steps"],
            ["finetune", "batch_size"],
            ["tasks", "cola", "sizes", "test"],
            ["evaluation", "batch_size"],
            ["learning", "references"],
            ["statistics", "inputs"],
        )
        for value in (0, -3, 10**12, 2.5, float("nan"))
    },
    **{
        f"lora.{key} {value}": (["finetune", "lora"], {key: value})
        for key, value in (
            ("rank", 0),
            ("rank", 1e30),
            ("dropout", 1.0),
            ("dropout", float("nan")),
            ("alpha", -1),
        )
    },
    **{
        f"variant {variant}": (["merge", "variants"], [variant])
        for variant in (
            {"ties": {"density": float("nan")}},
            {"ties": {"density": 0}},
            {"ties": {"scale": float("inf")}},
            {"ties": {"scale": 1e9}},
            {"task_arithmetic": {"scale": {"cola": float("nan")}}},
            {"divmerge": {"learning_rate": float("nan")}},
            {"divmerge": {"learning_rate": 0}},
            {"divmerge": {"initial": float("inf")}},
            {"divmerge": {"initial": 1e9}},
            {"divmerge": {"epochs": 0}},
            {"divmerge": {"inputs": -1}},
            {"ties": {"density": {"tune": []}}},
            {"ties": {"density": {"tune": 3}}},
            {"ties": {"density": {"tune": "abc"}}},
            {"divmerge": {key: {"tune": [*range(1, 2000)]} for key in ("inputs", "epochs", "initial")}},
            {"ties": {"density": {"tune": [0.1, float("nan")]}}},
            {
                "ties": {
                    "density": {"tune": [i / 200 for i in range(1, 200)]},
                    "scale": {"tune": [*range(1, 90)]},
                }
            },
            {"dare": {"seeds": 0}},
            {"../x": {}},
            None,
            3,
        )
    },
    "a home that is nobody's": (["base", "source"], "~nouser/model"),
    "a path with a NUL": (["base", "source"], "./a\0b"),
    "a path too long": (["base", "source"], "./" + "x" * 5000),
    "a folder that is not there": (["tasks", "cola", "source"], 3),
    "no tasks": (["tasks"], {}),
    "a subset of none": (["plans", "subsets", "sizes"], [0]),
    "watch of one": (["evaluation", "watch"], 1),
}

RIGHT: dict[str, tuple[list[str], Any]] = {
    "keys in brackets": (["tasks", "cola", "prompt"], "{choices[text][0]} {choices[text]}"),
    "braces of its own": (["tasks", "cola", "prompt"], "{{x}} {sentence}"),
    "a column of two words": (["tasks", "cola", "prompt"], "{the sentence}"),
    "answers with fields": (["tasks", "cola", "answers"], ["{a[0]}", "{a[1]}"]),
    "the largest seed": (["seed"], 2**32 - 1),
    "a whole learning rate": (["finetune", "learning_rate"], 1),
    "no weight decay": (["finetune", "weight_decay"], 0),
    "left out": (["tasks", "cola", "missing"], "drop"),
    "a scale below 0": (["merge", "variants"], [{"task_arithmetic": {"scale": -0.5}}]),
}


def changed(keys: list[str], value: Any) -> str:
    raw = yaml.safe_load(DEMO)
    place = raw
    for key in keys[:-1]:
        place = place.setdefault(key, {})
    place[keys[-1]] = value
    return yaml.safe_dump(raw, sort_keys=False)


def check(folder: Path, content: str | bytes | None, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    path = folder / "c.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return main(["check", str(path)]), capsys.readouterr().err


@pytest.mark.parametrize("name", [*FILES, *CHANGES])
def test_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    content = FILES[name] if name in FILES else changed(*CHANGES[name])
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    status, said = check(tmp_path, content, capsys)
    assert status == 2 and said.count("\n") == 1 and said.startswith("remerge: "), said
    assert not (tmp_path / "hit").exists()
    if name in FILES:
        assert time.monotonic() - started < 5
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_odd_and_right(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert check(tmp_path, changed(*RIGHT[name]), capsys) == (0, "")


@pytest.mark.parametrize(
    "name",
    [
        "missing",
        "empty",
        "a list",
        "tabs",
        "Latin-1",
        "an unknown tag",
        "lists in lists",
        "a bomb of mappings",
        "NUL",
        "a key twice",
        "a mapping in itself",
        "a program",
        "a home that is nobody's",
        "prompt '{x.y}'",
    ],
)
def test_the_same_through_snakemake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, said = check(tmp_path, FILES[name] if name in FILES else changed(*CHANGES[name]), capsys)
    which = ["--snakefile", ROOT / "Snakefile", "--configfile", tmp_path / "c.yaml"]
    done = snakemake(*which, "--cores", "1", "--dry-run", folder=tmp_path)
    assert (done.returncode, status) == (2, 2), done.stderr
    assert done.stderr.splitlines()[-1] == said.strip()
    assert "Traceback" not in done.stderr and not (tmp_path / "hit").exists()
