"""No wildcard of a rule carries a command: of every target, with letters that a shell reads more in."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from projects import ROOT, snakemake
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, ResourceSettings

LETTERS = [
    "$(touch hit)",
    "`touch hit`",
    ";touch hit;",
    "x;touch hit",
    "& touch hit",
    "| touch hit",
    "> hit",
    "cola\ntouch hit",
    "' touch hit '",
    '" touch hit "',
    "co la",
    "$HOME",
    "*",
    "{x}",
    "..",
    "../../x",
    "\\",
]


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Every rule of a benchmark that has all of them."""
    before = Path.cwd()
    try:
        with SnakemakeApi() as api:
            made = api.workflow(
                resource_settings=ResourceSettings(cores=1),
                config_settings=ConfigSettings(configfiles=[ROOT / "config/demo.yaml"]),
                snakefile=ROOT / "Snakefile",
                workdir=tmp_path_factory.mktemp("targets"),
            )
            return list(made._workflow.rules)
    finally:
        os.chdir(before)


def wild(rules: list[Any]) -> list[tuple[Any, str, str]]:
    """Rules, an output of each, and a wildcard in it."""
    return [
        (rule, str(output), name)
        for rule in rules
        for output in rule.output
        for name in re.findall(r"\{(\w+)[,}]", str(output))
    ]


def test_every_wildcard_is_constrained(rules: list[Any]) -> None:
    found = wild(rules)
    assert {name for _, _, name in found} == {"task", "kind", "unknown", "subset", "name", "benchmarks"}
    for _, output, name in found:
        assert f"{{{name}," in output, f"{output}: {name} may be anything"


def test_a_target_with_a_command_in_it_is_made_by_no_rule(rules: list[Any]) -> None:
    tried = 0
    for _, output, name in wild(rules):
        for letters in LETTERS:
            target = re.sub(rf"\{{{name},.*?\}}(?=/|\.|@|$)", lambda _, told=letters: told, output)
            target = re.sub(r"\{task,.*?\}(?=/|\.|@|$)", "cola", target)
            target = re.sub(r"\{\w+,.*?\}(?=/|\.|$)", "average", target)
            tried += 1
            assert not [rule.name for rule in rules if rule.is_producer(target)], target
    assert tried > 200


def test_shells_take_wildcards_and_files_in_quotes(rules: list[Any]) -> None:
    shells = [rule.shellcmd for rule in rules if rule.shellcmd]
    assert len(shells) > 10
    for command in shells:
        for field in re.findall(r"\{(.*?)\}", command):
            assert field.endswith(":q"), f"{command}: {{{field}}}"


@pytest.mark.parametrize(
    "target",
    ["statistics/cola/$(touch hit).safetensors", "exports/average/`touch hit`", "exports/ties/a;touch hit"],
)
def test_nothing_runs_for_one(tmp_path: Path, target: str) -> None:
    which = ["--snakefile", ROOT / "Snakefile", "--configfile", ROOT / "config/demo.yaml"]
    how = ["--cores", "1", "--scheduler", "greedy", "--", f"results/demo/{target}"]
    done = snakemake(*which, *how, folder=tmp_path)
    assert done.returncode and "MissingRuleException" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("hit"))


@pytest.mark.parametrize("target", ["tables/divmerge_table33.csv", "tables/anp.csv", "figures/best.svg"])
def test_a_table_or_figure_that_a_benchmark_does_not_make_is_refused_in_one_line(
    tmp_path: Path, target: str
) -> None:
    which = ["--snakefile", ROOT / "Snakefile", "--configfile", ROOT / "config/mini-glue.yaml"]
    done = snakemake(*which, "--cores", "1", "--", f"results/mini-glue/{target}", folder=tmp_path)
    kind, name = target.split(".")[0].split("s/")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"remerge: unknown {kind} '{name}' of mini-glue, known: " in done.stderr
