"""Linearised models: against finite differences, and where the expansion is known in closed form."""

import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel

from remerge.checkpoints.models import fingerprint, load_whole, state_of
from remerge.checkpoints.stored import LINEARISED, metadata, read_tensors
from remerge.config import Finetune
from remerge.errors import UserError
from remerge.families import Batch, Example, Head
from remerge.families.clip import Clip
from remerge.families.linearised import Linearised, expansion
from remerge.finetune import finetune
from remerge.folders.standalone import merge_folders
from remerge.miniature.digits import TASKS, examples
from remerge.tau_jp import Penalty, tau_jp

ROOT = Path(__file__).parents[2]
BASE = ROOT / "models/miniature-clip"


class Toy:
    """A family of modules from ``[B, n]`` to ``[B, m]``, without heads."""

    processor, reads, speaks = None, "text", False

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        return model(batch.inputs["x"])

    def read(self, model: nn.Module, batch: Batch, outputs: Tensor) -> Tensor:
        return outputs

    def collate(self, examples, device, multiple=1) -> Batch:
        return asked(torch.stack([torch.tensor(e.prompt, dtype=torch.float64) for e in examples]))


class Quadratic(nn.Module):
    """f(theta) = (theta_1² x_1, theta_1 theta_2 x_2)."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.theta
        return torch.stack([a * a * x[:, 0], a * b * x[:, 1]], dim=1)


def asked(x: Tensor) -> Batch:
    rows = torch.arange(len(x))
    return Batch({"x": x}, (rows,), rows, rows, [""] * len(x))


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_of_a_linear_model_it_is_the_model_itself(x):
    torch.manual_seed(0)
    base, model = (nn.Linear(2, 3).double() for _ in range(2))
    family = Linearised(Toy(), state_of(base), "")
    torch.testing.assert_close(family.logits(model, asked(x)), model(x), rtol=1e-12, atol=1e-12)


def test_of_a_quadratic_one_it_is_known(x):
    base, model = Quadratic(torch.tensor([1.5, -0.5]).double()), Quadratic(torch.tensor([2.0, 0.7]).double())
    value, derivative = expansion(Toy(), model, state_of(base), asked(x))
    (a, b), (da, db) = (1.5, -0.5), (0.5, 1.2)
    torch.testing.assert_close(value, torch.stack([a * a * x[:, 0], a * b * x[:, 1]], 1))
    known = torch.stack([2 * a * da * x[:, 0], (a * db + b * da) * x[:, 1]], 1)
    torch.testing.assert_close(derivative, known)
    # tau-Jp is the mean length of the derivative, and its gradient is that of these lengths by theta.
    penalty = tau_jp(Linearised(Toy(), state_of(base), ""), model, asked(x))
    torch.testing.assert_close(penalty, known.norm(dim=1).mean())
    (gradient,) = torch.autograd.grad(penalty, model.theta)
    unit = known / known.norm(dim=1, keepdim=True)
    by_a = (unit * torch.stack([2 * a * x[:, 0], b * x[:, 1]], 1)).sum(1).mean()
    by_b = (unit[:, 1] * a * x[:, 1]).mean()
    torch.testing.assert_close(gradient, torch.stack([by_a, by_b]))


def test_the_penalty_at_the_base_is_zero_and_has_a_gradient_that_is_a_number(x):
    base, model = (Quadratic(torch.tensor([1.5, -0.5]).double()) for _ in range(2))
    penalty = tau_jp(Linearised(Toy(), state_of(base), ""), model, asked(x))
    penalty.backward()
    assert penalty == 0 and model.theta.grad.isfinite().all()


def test_the_penalty_takes_as_many_inputs_of_each_task_and_all_before_one_again():
    class Counting(Toy):
        def __init__(self):
            self.seen = []

        def collate(self, examples, device, multiple=1):
            self.seen += [example.prompt for example in examples]
            return super().collate(examples, device, multiple)

    base, model = Quadratic(torch.tensor([1.0, 2.0]).double()), Quadratic(torch.tensor([1.0, 3.0]).double())
    others = [[Example((k, n), [0]) for n in range(1, 5)] for k in (0, 1)]
    runs = []
    for _ in range(2):
        toy = Counting()
        penalty = Penalty(Linearised(toy, state_of(base), ""), others, weight=0.5, inputs=3, seed=0)
        for step in range(4):
            # Of (k, n) the derivative is (0, n), of length n.
            found, drawn = penalty(model, step).item(), toy.seen[6 * step :]
            assert found == pytest.approx(0.5 * sum(n for _, n in drawn) / 6)
            assert [k for k, _ in drawn] == [0, 0, 0, 1, 1, 1] and len({*drawn}) == 6
        again = Penalty(Linearised(toy, state_of(base), ""), others, weight=0.5, inputs=3, seed=0)
        again(model, 2)  # as after a resumed training
        assert toy.seen[24:] == toy.seen[12:18] != toy.seen[6:12]
        runs.append(toy.seen)
    assert runs[0] == runs[1]


@pytest.mark.parametrize("at_once", [4, 3, 1])
def test_a_training_is_the_same_however_many_inputs_are_on_the_device_at_once(tmp_path, at_once):
    """Of ten inputs, the last step of a pass has four, in fewer parts than the others."""

    def train(at_once: int) -> Tensor:
        family = Clip(BASE)
        model = equipped(family)
        linear = Linearised(family, {name: theta.clone() for name, theta in state_of(model).items()}, "")
        pairs = [(row["image"], row["label"]) for row in examples("digit", "train", 20)]
        train, others = linear.examples("digit", pairs[:16]), linear.examples("parity", pairs[16:])
        recipe = Finetune(
            recipe="tau_jp",
            steps=4,
            batch_size=12,
            device_batch_size=at_once,
            learning_rate=1e-3,
            warmup=0,
            penalty=5,
        )
        finetune(linear, model, train, [], recipe, 0, tmp_path / str(at_once), [others])
        return torch.cat([theta.flatten() for theta in state_of(model).values()])

    # Adam's first step makes steps of rounding errors, of a few weights.
    assert (train(at_once) - train(12)).abs().mean() < 2e-6


# --- CLIP ----------------------------------------------------------------------------------------


def equipped(family: Clip) -> nn.Module:
    model = family.load(BASE, torch.float32, torch.device("cpu"))
    heads = {task: Head(None, TASKS[task].answers, TASKS[task].captions) for task in ("digit", "parity")}
    family.equip(model, heads)
    return model


@pytest.fixture(scope="module")
def clip() -> tuple[Clip, nn.Module, nn.Module, Batch]:
    """The family, its base, a model a step away, and inputs of two tasks."""
    family = Clip(BASE)
    base, model = equipped(family), equipped(family)
    generator = torch.Generator().manual_seed(3)
    for parameter in state_of(model).values():
        parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    pairs = [(row["image"], row["label"]) for row in examples("digit", "train", 4)]
    asked = family.examples("digit", pairs[:2]) + family.examples(
        "parity", [(i, n % 2) for i, n in pairs[2:]]
    )
    return family, base, model, family.collate(asked, torch.device("cpu"))


def exact(base: nn.Module, model: nn.Module, batch: Batch, step: float) -> Tensor:
    """What the tower says at theta_0 + step · tau, in float64."""
    tower = deepcopy(base).double()
    for (name, theta), theta_0 in zip(state_of(tower).items(), state_of(base).values(), strict=True):
        theta.add_(step * (state_of(model)[name].double() - theta_0.double()))
    with torch.no_grad():
        pooled = tower(pixel_values=batch.inputs["pixel_values"].double()).pooler_output
    return pooled @ tower.heads.heads["digit"].projection.double().T


def test_of_clip_against_finite_differences(clip):
    family, base, model, batch = clip
    value, derivative = expansion(family, model, state_of(base), batch)
    torch.testing.assert_close(value.double(), exact(base, model, batch, 0), rtol=1e-4, atol=1e-4)
    difference = (exact(base, model, batch, 1e-4) - exact(base, model, batch, -1e-4)) / 2e-4
    torch.testing.assert_close(derivative.double(), difference, rtol=1e-4, atol=1e-3)
    # The step is no small one: the model itself says something else.
    assert (exact(base, model, batch, 1) - value - derivative).norm() > 0.1 * derivative.norm()


def test_the_heads_read_the_expansion_as_they_read_the_model(clip):
    family, base, model, batch = clip
    linear = Linearised(family, state_of(base), "")
    torch.testing.assert_close(linear.logits(base, batch), family.logits(base, batch), rtol=1e-4, atol=1e-3)
    value, derivative = expansion(family, model, state_of(base), batch)
    expected = family.read(model, batch, value + derivative)
    assert torch.equal(linear.logits(model, batch), expected)
    assert linear.greedy(model, []) == []
    far = (linear.logits(model, batch) - family.logits(model, batch)).abs().max()
    assert far > 0.1


def test_the_gradient_of_the_expansion_is_the_bases_jacobian_wherever_the_model_is(clip):
    """Of sum(outputs), in the direction of each tensor: that of the ordinary model at the base."""
    family, base, model, batch = clip
    for parameter in (*base.parameters(), *model.parameters()):
        parameter.grad = None
    family.outputs(base, batch).sum().backward()
    value, derivative = expansion(family, model, {n: t.detach() for n, t in state_of(base).items()}, batch)
    (value + derivative).sum().backward()
    ordinary = dict(base.named_parameters())
    for name, parameter in model.named_parameters():
        if ordinary[name].grad is not None:
            torch.testing.assert_close(parameter.grad, ordinary[name].grad, rtol=1e-3, atol=1e-3)


def test_a_saved_one_is_read_by_nothing_that_reads_ordinary_models(clip, tmp_path):
    family, base, model, _ = clip
    Linearised(family, state_of(base), "abc").save(model, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [LINEARISED]
    assert metadata(tmp_path / LINEARISED) == {"base": "abc"} and len(fingerprint(tmp_path)) == 16
    saved = read_tensors(tmp_path / LINEARISED)
    assert all(torch.equal(saved[name], theta) for name, theta in state_of(model).items())
    shutil.copy(BASE / "config.json", tmp_path)
    with pytest.raises(
        UserError, match="a linearised model, which only a benchmark with the same base can read"
    ):
        load_whole(CLIPVisionModel, tmp_path, torch.float32)
    with pytest.raises(OSError, match=r"model\.safetensors"):
        CLIPVisionModel.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="a linearised model"):
        merge_folders("average", str(BASE), [str(tmp_path), str(BASE)], tmp_path / "out", [], None, "cpu")
