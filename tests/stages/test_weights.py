"""What is said of experts' weights, against float64 formulas on the same checkpoints."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from remerge import exhibits
from remerge.analysis.agreement import mean_agreement
from remerge.errors import UserError
from remerge.journal import Journal
from remerge.methods.decomposition._basis import linear_weights, stacked
from remerge.methods.decomposition._drm import coordinates
from remerge.records import Weights
from remerge.report.make import write
from remerge.report.run import Run
from remerge.stages import experts, weights
from remerge.stages._bench import Bench

TASKS = ("cola", "mnli", "sst2")


@pytest.fixture
def bench(existing):
    """A base and three experts on disk, their weights or adapters; no data."""
    asked = {"prompt": "{sentence}", "answers": ["no", "yes"]}
    return existing(dict.fromkeys(TASKS, asked), "drm_h", paper="drm")


def taus(config):
    """The deltas of all tensors, float64, by transformers and PEFT alone."""
    base = AutoModelForCausalLM.from_pretrained("base").double()
    found = {}
    for task in TASKS:
        model = AutoModelForCausalLM.from_pretrained(task).double()
        if Path(task, "adapter_config.json").exists():
            from peft import PeftModel

            model = PeftModel.from_pretrained(
                AutoModelForCausalLM.from_pretrained("base").double(), task
            ).merge_and_unload()
        for name, theta in base.named_parameters():
            found.setdefault(name, []).append(model.get_parameter(name).detach() - theta.detach())
    stacks = {name: torch.stack(tau) for name, tau in found.items()}
    return {name: tau for name, tau in stacks.items() if tau.abs().max() > 0}


def top(V, share):
    """1 at the int(share · n) largest magnitudes."""
    order = V.abs().flatten().sort(descending=True).values
    return (V.abs() >= order[int(share * len(order)) - 1]).double()


def joint_space(tau):
    """U, Sigma and each expert's V_t^T (Eq. 1 to 3), singular values up to 1% of the largest left out."""
    U, s, Vt = torch.linalg.svd(torch.cat(list(tau), dim=1), full_matrices=False)
    kept = s > 0.01 * s[0]
    return U[:, kept], s[kept], torch.stack(Vt[kept].chunk(len(tau), dim=1))


def agreements(stack):
    p, q = (stack > 1e-12).sum(0), (stack < -1e-12).sum(0)
    held = p + q > 0
    return torch.maximum(p, q)[held] / (p + q)[held]


def spaces(tau):
    """What is compared in each space."""
    found = {"unpruned": tau, "original": torch.stack([t * top(t, 0.2) for t in tau])}
    for space, turned in (("horizontal", tau), ("vertical", tau.mT)):
        U, s, V = joint_space(turned)
        unit = V / V.norm(dim=2, keepdim=True)
        found[space] = s[:, None] * V * top(unit, 0.2)
        found[f"{space}_back"] = U @ found[space]
    return found


def test_signs_cosines_and_what_is_dropped_are_the_papers(bench):
    weights.run(bench)
    found, tau = Weights.read(bench.folder), taus(bench)
    assert found.experts == list(TASKS)
    flat = torch.cat([t.flatten(1) for t in tau.values()], dim=1)
    unit = flat / flat.norm(dim=1, keepdim=True)
    torch.testing.assert_close(torch.tensor(found.cosines).double(), unit @ unit.T, rtol=0, atol=1e-5)

    linear = [name for name, t in tau.items() if t.ndim == 3 and "embed" not in name]
    assert found.matrices == len(linear) == (14 if len(tau) > 14 else 4)
    compared = [spaces(tau[name]) for name in linear]
    for space in compared[0]:
        expected = torch.cat([agreements(one[space]) for one in compared])
        tally = getattr(found.signs, space)
        positions = sum(map(sum, tally))
        assert positions - tally[0][0] == pytest.approx(len(expected), abs=1)
        assert mean_agreement(tally) == pytest.approx(float(expected.double().mean()), abs=1e-3)

    assert found.dropped.matrix == "model.layers.0.self_attn.q_proj.weight"
    _, _, V = joint_space(tau[found.dropped.matrix])
    for shares, matrix in (
        (found.dropped.plain, V),
        (found.dropped.renormalised, V / V.norm(dim=2, keepdim=True)),
    ):
        expected = 1 - top(matrix, 0.5).mean(dim=2)
        assert torch.tensor(shares).double().sub(expected).abs().max() < 0.5 / V.shape[2]


def test_unpruned_joint_spaces_give_the_deltas_back(bench, monkeypatch):
    deltas = Bench(bench).deltas(dict.fromkeys(TASKS, 1))
    for name in linear_weights(deltas):
        for vertical in (False, True):
            U, C = coordinates(stacked(deltas, name), vertical)
            made = (U @ C).mT if vertical else U @ C
            torch.testing.assert_close(made, deltas[name], rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(weights, "DENSITY", 1.0)
    weights.run(bench)
    signs = Weights.read(bench.folder).signs
    assert signs.original == signs.unpruned
    for back in (signs.horizontal_back, signs.vertical_back):
        differ = (torch.tensor(back) - torch.tensor(signs.unpruned)).abs().sum()
        assert differ <= 0.01 * sum(map(sum, back))


def test_identical_experts_agree_in_every_space(bench):
    for task in ("sst2", "mnli"):
        shutil.rmtree(task)
        shutil.copytree("cola", task)
        experts.run(bench, task)
    weights.run(bench)
    found = Weights.read(bench.folder)
    assert found.cosines == [[1.0] * 3] * 3
    for space, tally in found.signs.model_dump().items():
        assert mean_agreement(tally) == 1, space


def test_the_order_of_tasks_is_that_of_the_matrix(bench):
    weights.run(bench)
    first = Weights.read(bench.folder).cosines
    weights.run(bench.model_copy(update={"tasks": dict(reversed(bench.tasks.items()))}))
    assert Weights.read(bench.folder).cosines == [row[::-1] for row in first[::-1]] != first


def test_what_is_measured_is_recalled_until_an_expert_changes(bench, monkeypatch):
    weights.run(bench)
    first = Weights.read(bench.folder)
    added = []
    monkeypatch.setattr(Journal, "_append", lambda self, entry: added.append(entry))
    weights.run(bench)
    assert not added and Weights.read(bench.folder) == first
    shutil.rmtree("sst2")
    shutil.copytree("mnli", "sst2")
    experts.run(bench, "sst2")
    weights.run(bench)
    assert added and Weights.read(bench.folder).cosines[1][2] == 1


@pytest.mark.parametrize("task", TASKS)
def test_an_expert_that_is_the_base_is_named(bench, task):
    if Path(task, "adapter_config.json").exists():
        untrained = load_file(f"{task}/adapter_model.safetensors")
        untrained |= {name: 0 * B for name, B in untrained.items() if "lora_B" in name}
        save_file(untrained, f"{task}/adapter_model.safetensors", {"format": "pt"})
    else:
        shutil.rmtree(task)
        shutil.copytree("base", task)
    experts.run(bench, task)
    with pytest.raises(UserError, match=rf"tasks\.{task}: its expert's weights equal the base's"):
        weights.run(bench)
    assert not Weights.place(bench.folder).exists()


@pytest.mark.parametrize("paper", ["drm", "divmerge"])
def test_the_exhibits_are_made_of_it(bench, paper):
    weights.run(bench)
    text = yaml.safe_load(Path("b.yaml").read_text()) | {"paper": paper}
    (bench.folder / "config.yaml").write_text(yaml.safe_dump(text))
    run = Run(bench.folder)
    made = [e for e in exhibits.of(run.config).values() if e.reads == ("weights",)]
    for exhibit in made:
        write(bench.folder, exhibit.name, exhibit.kind)
        title, _ = exhibit.text(run.facts | exhibit.build(run).facts)
        assert title
    names = {"drm": ["drm_figure3", "drm_table4", "drm_figure5"], "divmerge": ["divmerge_figure6"]}
    assert [exhibit.name for exhibit in made] == names[paper]
