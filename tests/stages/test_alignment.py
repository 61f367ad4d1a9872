"""CKA of experts' layers, against features made by transformers and PEFT alone."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from remerge import miniature
from remerge.journal import Journal
from remerge.records import Alignment
from remerge.stages import alignment, data, experts
from remerge.stages._workspace import Workspace

TASKS = ("cola", "mnli", "sst2")


@pytest.fixture
def bench(existing, monkeypatch):
    """A base, three experts on disk, their weights or adapters, and inputs of several lengths."""
    monkeypatch.setattr(alignment, "ALIGNED", 7)
    sizes = {"train": 8, "validation": 9, "test": 8}
    forms = {task: miniature.FORMATS[task] for task in TASKS}
    asked = {t: {"prompt": f.prompt, "answers": list(f.answers), "sizes": sizes} for t, f in forms.items()}
    config = existing(asked, "knots")
    for task in TASKS:
        data.run(config, task)
    return config


def inputs_of_layers(config, count=7):
    """What each linear layer of the base sees of one input after the other; the end token is never read."""
    model = AutoModelForCausalLM.from_pretrained("base").double()
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            module.register_forward_pre_hook(
                lambda _, x, name=f"{name}.weight": seen.setdefault(name, []).append(x[0][0].detach())
            )
    for task in TASKS:
        for example in Workspace(config).split(task, "validation").examples[:count]:
            model(torch.tensor([[*example.prompt, *example.answer[:-1]]]))
    return {name: torch.cat(rows).numpy() for name, rows in seen.items()}


def weights_of(task):
    if Path(task, "adapter_config.json").exists():
        base = AutoModelForCausalLM.from_pretrained("base").double()
        return PeftModel.from_pretrained(base, task).merge_and_unload().state_dict()
    return AutoModelForCausalLM.from_pretrained(task).double().state_dict()


def linear_cka(X, Y):
    X, Y = (features - features.mean(axis=0) for features in (X, Y))
    norm = np.linalg.norm
    return norm(Y.T @ X) ** 2 / (norm(X.T @ X) * norm(Y.T @ Y))


def pairwise(features):
    return np.array([[linear_cka(X, Y) for Y in features] for X in features])


def test_cka_is_of_features_on_the_same_inputs(bench):
    alignment.run(bench)
    found, seen = Alignment.read(bench.folder), inputs_of_layers(bench)
    theta_0 = AutoModelForCausalLM.from_pretrained("base").double().state_dict()
    states = {task: weights_of(task) for task in TASKS}
    adapters = Path("cola/adapter_config.json").exists()
    assert (found.experts, found.adapters, found.inputs) == ([*TASKS], adapters, 7)
    assert len(found.matrices) == (4 if adapters else 14)
    for matrix in found.matrices:
        name, X = matrix.matrix, seen[matrix.matrix]
        assert name.startswith(f"{matrix.layer}.")
        W = [states[task][name].numpy() for task in TASKS]
        tau = [w - theta_0[name].numpy() for w in W]
        _, s, Vt = np.linalg.svd(np.concatenate(tau, axis=1), full_matrices=False)
        blocks = np.split(Vt[s > 1e-5], len(TASKS), axis=1)
        expected = {
            "outputs": pairwise([X @ w.T for w in W]),
            "updates": pairwise([X @ t.T for t in tau]),
            "aligned": pairwise([X @ V.T for V in blocks]),
        }
        for what, values in expected.items():
            np.testing.assert_allclose(np.array(getattr(matrix, what)), values, atol=1e-4, err_msg=name)
        # In KnOTS's coordinates, Sigma V^T, the updates are as alike as they are.
        turned = pairwise([X @ (s[s > 1e-5][:, None] * V).T for V in blocks])
        np.testing.assert_allclose(turned, expected["updates"], atol=1e-6)


def test_a_task_with_few_inputs_counts_as_much_as_the_others(bench):
    bench.tasks["mnli"] = bench.tasks["mnli"].model_copy(
        update={"sizes": bench.tasks["mnli"].sizes.model_copy(update={"validation": 3})}
    )
    data.run(bench, "mnli")
    alignment.run(bench)
    found, seen = Alignment.read(bench.folder), inputs_of_layers(bench, 3)
    assert found.inputs == 3
    (matrix, *_) = found.matrices
    outputs = [seen[matrix.matrix] @ weights_of(task)[matrix.matrix].numpy().T for task in TASKS]
    np.testing.assert_allclose(np.array(matrix.outputs), pairwise(outputs), atol=1e-4)


def test_identical_experts_are_one_and_what_nobody_changed_is_left_out(bench):
    for task in ("sst2", "mnli"):
        shutil.rmtree(task)
        shutil.copytree("cola", task)
        experts.run(bench, task)
    alignment.run(bench)
    found = Alignment.read(bench.folder)
    assert found.matrices and all(m.updates == m.aligned == [[1.0] * 3] * 3 for m in found.matrices)
    shutil.rmtree("sst2")
    shutil.copytree("base", "sst2")
    experts.run(bench, "sst2")
    alignment.run(bench)
    assert not Alignment.read(bench.folder).matrices


def test_what_is_measured_is_recalled(bench, monkeypatch):
    alignment.run(bench)
    first, added = Alignment.read(bench.folder), []
    monkeypatch.setattr(Journal, "_append", lambda self, entry: added.append(entry))
    alignment.run(bench)
    assert not added and Alignment.read(bench.folder) == first
