"""Every stage on a GPU, or on one that is none: the records of a CPU, and nothing that a GPU would refuse.

A PyTorch that is built for GPUs takes no other device for one: `make test-gpu` tests the machine's own GPU.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pretended
import pytest
import torch
import yaml
from projects import ROOT

from remerge import miniature

HERE = Path(__file__).parent
WORDS = ("cola", "mnli", "sst2")
DIGITS = ("digit", "parity", "inverted")
SPOKEN = ("imdb", "squad", "common_gen")
LORA = {"rank": 2, "alpha": 4}
WORLDS: dict[str, tuple[str, str, tuple[str, ...], dict[str, Any]]] = {
    "decoder": ("causal_lm", "qwen2", WORDS, {}),
    "adapters": ("classifier", "llama", WORDS, {"lora": LORA}),
    "encoder-decoder": ("seq2seq", "t5", SPOKEN, {}),
    "encoder": ("classifier", "deberta", WORDS, {"evaluations": 2, "patience": 1}),
    "vision": ("clip", "clip", DIGITS, {}),
    "tau_jp": ("clip", "clip", DIGITS, {"recipe": "tau_jp"}),
}
VARIANTS = [
    "average",
    {"task_arithmetic": {"scale": {"tune": [0.3, 0.6]}}},
    "ties",
    "dare_ties",
    "drm_h",
    "tsv_m",
    {"adamerging": {"level": "layer"}},
    {"divmerge": {"divergence": "js", "level": "task"}},
    {"divmerge": {"divergence": "kl", "level": "layer", "over": "ties"}},
]
MEASURED = ["fisher", "regmean"]
"""What needs statistics of the experts, which those of a first-order expansion have not."""

LATE = '''"""A mean that reads the same tensor of the base for each."""

from remerge.deltas import Deltas, Merged
from remerge.methods import method


@method(label="Late", citation="none")
def late(deltas: Deltas) -> Merged:
    """theta_0 + the mean."""
    first = next(iter(deltas))
    before = deltas.base[first].clone()
    for name in deltas:
        assert deltas.base[first].equal(before)
        yield name, deltas[name].mean(dim=0)
'''
"""A method of a configuration's own, which may read the base again after a merge has been written."""


@pytest.fixture(scope="session")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables with which a process has a GPU."""
    if torch.version.cuda or torch.version.hip:
        if not torch.cuda.is_available():
            pytest.skip("PyTorch is built for GPUs, and may use none here: make test-gpu")
        return {}
    library = pretended.built(tmp_path_factory.mktemp("gpu"))
    if library is None:
        pytest.skip("no C++ compiler")
    return {pretended.VARIABLE: str(library)}


def asked(family: str, tasks: tuple[str, ...]) -> dict[str, Any]:
    """Some tasks of the miniatures, as a configuration asks for them."""
    sizes = {"train": 64, "validation": 8, "test": 24}
    if family == "clip":
        whole = yaml.safe_load((ROOT / "config/demo-vision.yaml").read_text())["tasks"]
    elif family == "seq2seq":
        whole = yaml.safe_load((ROOT / "config/demo-t5.yaml").read_text())["tasks"]
        whole["imdb"]["metric"] = "choice"
    else:
        forms = {task: miniature.FORMATS[task] for task in tasks}
        whole = {
            task: {"source": "miniature", "prompt": form.prompt, "answers": [*form.answers]}
            for task, form in forms.items()
        }
    return {task: {**whole[task], "sizes": sizes} for task in tasks}


def run(config: dict[str, Any], folder: Path, variables: dict[str, str]) -> str:
    """Every stage, in a process of its own with some variables; what it printed."""
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    path = os.pathsep.join(map(str, (ROOT / "src", HERE, HERE.parent)))
    made = subprocess.run(
        [sys.executable, HERE / "every_stage.py", "c.yaml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", **variables},
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    assert "steps are not recorded" not in made.stderr
    return made.stdout


@pytest.mark.parametrize("world", WORLDS)
def test_a_gpu_makes_the_merges_of_a_cpu(world: str, gpu: dict[str, str], tmp_path: Path) -> None:
    """Trained on the GPU, the experts are merged there and on the CPU."""
    family, model, tasks, recipe = WORLDS[world]
    variants = [*VARIANTS, "late", *([] if recipe.get("recipe") else MEASURED)]
    (tmp_path / "late.py").write_text(LATE)
    learned = {"inputs": 6, "epochs": 2, "learning_rate": 0.02}
    config = {
        "benchmark": "gpu",
        "base": {"family": family, "source": str(ROOT / f"models/miniature-{model}"), "dtype": "float32"},
        "tasks": asked(family, tasks),
        "finetune": {"steps": 6, "batch_size": 8, "learning_rate": 3e-3, "multitask": False, **recipe},
        "methods": ["late.py"],
        "merge": {"variants": variants, "defaults": {"adamerging": learned, "divmerge": learned}},
        "plans": {"subsets": {"sizes": [2], "tune_on": ["+".join(sorted(tasks)[:2])]}},
        "statistics": {"inputs": 6},
    }
    said = run(config, tmp_path, gpu)
    close = 1e-4 if gpu else 1e-2  # a GPU's own kernels add up in another order
    if gpu:
        did = json.loads(said.splitlines()[-1])
        assert did["operations"] > 10_000 and did["played"] > 20
        assert did["waits"][0] == did["waits"][1] < 40
    folders = {task: {**config["tasks"][task], "expert": f"results/gpu/experts/{task}"} for task in tasks}
    run(config | {"benchmark": "cpu", "device": "cpu", "tasks": folders}, tmp_path, {})
    compared = 0
    for path in sorted((tmp_path / "results/cpu/merges").rglob("*.jsonl")):
        twin = tmp_path / "results/gpu/merges" / path.relative_to(tmp_path / "results/cpu/merges")
        for ours, theirs in zip(path.read_text().splitlines(), twin.read_text().splitlines(), strict=True):
            cpu, on_gpu = json.loads(ours), json.loads(theirs)
            assert (cpu["case"], cpu["params"]) == (on_gpu["case"], on_gpu["params"])
            assert flat(cpu["coefficients"]) == pytest.approx(flat(on_gpu["coefficients"]), abs=close)
            for task, score in cpu["scores"].items():
                assert score["value"] == pytest.approx(on_gpu["scores"][task]["value"], abs=1.01 / score["n"])
            compared += 1
    assert compared == 3 * len(variants)


@pytest.mark.parametrize("world", ["decoder", "encoder", "vision"])
def test_a_gpu_repeats_itself_to_the_byte(world: str, gpu: dict[str, str], tmp_path: Path) -> None:
    """Experts, and coefficients that are learned of them."""
    if gpu:
        pytest.skip("the kernels of a GPU that is none are a CPU's: make test-gpu")
    family, model, tasks, recipe = WORLDS[world]
    config = {
        "benchmark": "gpu",
        "base": {"family": family, "source": str(ROOT / f"models/miniature-{model}"), "dtype": "float32"},
        "tasks": asked(family, tasks),
        "finetune": {"steps": 20, "batch_size": 32, "learning_rate": 3e-3, "multitask": False, **recipe},
        "merge": {"variants": [{"divmerge": {"level": "layer", "inputs": 16, "epochs": 4}}]},
        "statistics": {"inputs": 6},
    }
    made = []
    for place in (tmp_path / "first", tmp_path / "second"):
        place.mkdir()
        run(config, place, gpu)
        weights = sorted((place / "results/gpu/experts").rglob("*.safetensors"))
        merges = [line for file in (place / "results/gpu/merges").rglob("*.jsonl") for line in file.open()]
        learned = [json.loads(line)["coefficients"] for line in merges]
        made.append(([file.read_bytes() for file in weights], learned))
    assert len(made[0][0]) >= len(tasks)
    assert made[0] == made[1]


def flat(coefficients: Any) -> dict[str, float]:
    """The coefficients of a record by task, and by layer if there are any."""
    return {
        f"{task} {layer}": value
        for task, given in (coefficients or {}).items()
        for layer, value in (given if isinstance(given, dict) else {"": given}).items()
    }
