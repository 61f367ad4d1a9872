"""Learned coefficients against autograd through the merge, and at known optima."""

import weakref
from dataclasses import replace

import pytest
import torch
from recording import Kept, OnACpu, Waits, on_a_cpu
from torch.func import functional_call
from transformers import CanineConfig, CanineModel

from remerge import blend, learn, step
from remerge.amounts import POINTS
from remerge.blend import Blend
from remerge.deltas import PIECE, Deltas, LowRank, merge_state, some_rows
from remerge.errors import Diverged, UserError
from remerge.learn import evenly, fit
from remerge.measures.divergence import js, kl
from remerge.measures.references import make_reference, position_weights, side_by_side
from remerge.measures.words import WordHead
from remerge.methods import find, prepare
from remerge.tau import Weights

PREPARED = ["ties", "drm_h", "knots", "tsv_m"]
JS = find("divmerge").objective({"divergence": "js"})
HOW = {"level": "task", "learning_rate": 0.02, "initial": 0.5, "epochs": 1, "batch_size": 2, "seed": 3}


def fitted(family, model, base, tau, references, objective=JS, **how):
    return fit(family, model, base, tau, references, objective, **HOW | how)


@pytest.fixture
def references(family, model, experts, tokenizer, examples):
    made = []
    for task, state in experts.items():
        model.load_state_dict(state, strict=False)
        head = WordHead((state["model.embed_tokens.weight"], None))
        made.append(make_reference(family, model, examples(task, 12), 8, head))
    return made


def whole_loss(family, model, references, divergence):
    """Sum over tasks of the mean over inputs of the mean over positions, with autograd intact."""
    total = torch.zeros(())
    for reference in references:
        batch = family.collate(reference.examples, torch.device("cpu"))
        q = family.logits(model, batch).log_softmax(-1)
        p = side_by_side(family, model, [(reference, range(batch.size))])
        total = total + (divergence(p, q) * position_weights(batch)).sum() / batch.size
    return total


class Callable(torch.nn.Module):
    """`functional_call` replaces parameters inside it, so the loss is computed in a forward."""

    def __init__(self, family, model, references, divergence):
        super().__init__()
        self.model, self.rest = model, (family, references, divergence)

    def forward(self):
        family, references, divergence = self.rest
        return whole_loss(family, self.model, references, divergence)


@pytest.fixture
def adapters(base):
    """Three LoRA experts, as the deltas of what they change."""
    generator = torch.Generator().manual_seed(6)
    names = [name for name in base if name.endswith(("q_proj.weight", "up_proj.weight"))]
    made = {}
    for task in ("cola", "mnli", "sst2"):
        made[task] = {}
        for name in names:
            n, m = base[name].shape
            B, A = (0.3 * torch.randn(s, generator=generator) for s in ((n, 2), (2, m)))
            made[task][name] = LowRank(B, A, 0.5)
    return Deltas({name: base[name] for name in names}, made)


def held(deltas):
    """Deltas as the pipeline holds them."""
    return {name: deltas.factors(name) or deltas[name] for name in deltas}


@pytest.mark.parametrize(
    ("over", "shared"),
    [("none", True), ("knots", True), ("tsv_m", True), ("drm_h", True), ("drm_v", True), ("ties", False)],
)
def test_what_is_prepared_of_adapters_in_their_own_space_stays_low_rank(adapters, over, shared):
    prepared = prepare(over, adapters)
    for name in prepared:
        factors = prepared.factors(name)
        assert (factors is not None) == shared
        if shared:
            assert max(len(f.A) for f in factors) <= 6
            close = torch.stack([f.dense() for f in factors])
            assert torch.allclose(close, prepared[name], atol=1e-6), name
    assert prepare(over, Deltas(adapters.base, {"cola": adapters.base})).factors(name) is None


@pytest.mark.parametrize("divergence", [kl, js])
@pytest.mark.parametrize("level", ["task", "layer"])
def test_gradient_is_autograd_through_the_merge(family, model, base, experts, references, divergence, level):
    agree_with_autograd(family, model, base, references, Deltas(base, experts), divergence, level)


@pytest.mark.parametrize("over", PREPARED)
@pytest.mark.parametrize("full", [True, False], ids=["full", "lora"])
def test_gradient_over_prepared_vectors(family, model, base, experts, adapters, references, over, full):
    """DivMerge, Remark 3: the vectors that another method prepares take the place of the experts' own."""
    deltas = prepare(over, Deltas(base, experts) if full else adapters)
    agree_with_autograd(family, model, base, references, deltas, js, "task")


@pytest.mark.parametrize("over", PREPARED)
@pytest.mark.parametrize("full", [True, False], ids=["full", "lora"])
def test_a_merge_over_prepared_vectors_is_the_methods_at_those_scales(
    model, base, experts, adapters, over, full
):
    """So learning begins at the method itself where it starts from the method's scale."""
    deltas = Deltas(base, experts) if full else adapters
    prepared, lam = prepare(over, deltas), [1.2, -0.3, 0.7]
    written = Blend(model, base, held(prepared))
    written.write(torch.tensor(lam)[:, None])
    method = find(over)
    expected = merge_state(deltas.base, method.function(deltas, **method.settings({"scale": lam})))
    for name, theta in expected.items():
        assert torch.allclose(written.parameters[name], theta, atol=1e-5), name


def agree_with_autograd(family, model, base, references, deltas, divergence, level):
    model.load_state_dict(base, strict=False)
    tau = {name: deltas[name] for name in deltas}
    at = Blend(model, base, held(deltas))
    width = 1 if level == "task" else len(at.layers)
    lam = torch.rand(3, width, generator=torch.Generator().manual_seed(2)).requires_grad_()
    wide = lam.expand(-1, len(at.layers))

    merged = {
        f"model.{name}": base[name] + torch.tensordot(wide[:, at.column[name]], tau[name], dims=1)
        for name in tau
    }
    embedding = "model.embed_tokens.weight"
    merged["model.lm_head.weight"] = merged.get(f"model.{embedding}", base[embedding])
    loss = functional_call(Callable(family, model, references, divergence), merged, ())
    (expected,) = torch.autograd.grad(loss, lam)

    ours, gradient = at.gradient(lam.detach(), lambda: whole_loss(family, model, references, divergence))
    found = gradient.sum(dim=1, keepdim=True) if level == "task" else gradient

    assert ours.item() == pytest.approx(loss.item(), rel=1e-6)
    assert (found - expected).abs().max() <= 2e-6 * expected.abs().max()
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("answer", ["mean", "sum"])
def test_the_loss_of_an_answer_is_its_mean_or_sum_over_positions(
    family, model, base, experts, references, answer
):
    """Position by position, in float64; answers of one to several tokens."""
    blend = Blend(model, base, held(Deltas(base, experts)))
    lam, chosen = torch.full((3, 1), 0.4), [(shortened(reference), range(3)) for reference in references]
    found, _ = step.Step(family, model, blend, js, answer)(lam, chosen)
    blend.write(lam)
    total, lengths = 0.0, set()
    for reference, some in chosen:
        for i in some:
            batch = family.collate([reference.examples[i]], torch.device("cpu"))
            q = family.logits(model, batch).log_softmax(-1).double()
            p = side_by_side(family, model, [(reference, [i])]).double()
            losses = js(p, q)
            lengths.add(len(losses))
            total += float(losses.mean() if answer == "mean" else losses.sum()) / len(some)
    assert lengths == {1, 2, 3}
    assert float(found) == pytest.approx(total, rel=1e-5)


def shortened(reference):
    """The first three answers, cut to one, two and three tokens."""
    examples = [replace(e, answer=e.answer[: i + 1]) for i, e in enumerate(reference.examples[:3])]
    return replace(reference, examples=examples, rows=[r[: i + 1] for i, r in enumerate(reference.rows[:3])])


def test_layers_are_blocks_and_the_rest(model, base, experts):
    deltas = Deltas(base, experts)
    assert Blend(model, base, {n: deltas[n] for n in deltas}).layers == [
        "model.layers.0",
        "model.layers.1",
        "other",
    ]


@pytest.mark.parametrize("name", ["kl", "js"])
def test_one_expert_is_found_again(family, model, base, experts, references, name):
    """With a single expert the optimum is lam = 1, where the loss is 0."""
    deltas = Deltas(base, {"cola": experts["cola"]})
    objective = find("divmerge").objective({"divergence": name})
    how = {"epochs": 60, "batch_size": 4, "seed": 0}
    found = fitted(family, model, base, dict(deltas), references[:1], objective, **how)
    assert found.lam.item() == pytest.approx(1.0, abs=0.01)
    assert found.trace[0] > 1e-3
    assert found.trace[-1] < found.trace[0] / 500


def test_fit_is_the_same_twice_and_leaves_the_merge(family, model, base, experts, references):
    tau, how = dict(Deltas(base, experts)), {"level": "layer", "initial": 1 / 3, "epochs": 2}
    first, second = (fitted(family, model, base, tau, references, **how) for _ in range(2))
    assert torch.equal(first.lam, second.lam)
    assert first.trace == second.trace
    assert len(first.trace) == 2 * 6
    assert list(first.course) == list(range(13))  # after every step, for there are few
    assert torch.equal(first.course[0], torch.full((3, 3), 1 / 3))
    assert torch.equal(first.course[12], first.lam)
    named = first.course_by_name(["cola", "mnli", "sst2"])
    assert named["mnli"]["model.layers.1"] == [round(c[1, 1].item(), 4) for c in first.course.values()]
    name = "model.layers.1.mlp.up_proj.weight"
    column = first.layers.index("model.layers.1")
    expected = base[name] + torch.tensordot(first.lam[:, column], tau[name], dims=1)
    assert torch.allclose(dict(model.named_parameters())[name], expected, atol=1e-6)


def test_the_coefficients_kept_at_a_step_are_those_of_so_many_steps(family, model, base, experts, references):
    """Two epochs begin as one does; Adam's first step is the learning rate against the gradient's sign."""
    tau = dict(Deltas(base, experts))
    found = [fitted(family, model, base, tau, references, epochs=n, batch_size=6) for n in (1, 2)]
    assert torch.equal(found[1].course[2], found[0].lam)
    assert (found[0].course[1] - 0.5).abs().flatten().tolist() == pytest.approx([0.02] * 3, abs=1e-5)


def test_every_step_takes_as_many_inputs_of_each_task(family, model, base, experts, references, monkeypatch):
    """Also the last of an epoch, of tasks with more inputs than the shortest: or these would weigh more."""
    taken = []

    class Noted(learn.Step):
        def __call__(self, lam, chosen):
            taken.append([len(inputs) for _, inputs in chosen])
            return super().__call__(lam, chosen)

    monkeypatch.setattr(learn, "Step", Noted)
    fewer = [references[0].first(5), *references[1:]]
    fitted(family, model, base, dict(Deltas(base, experts)), fewer, epochs=2)
    assert taken == 2 * [[2, 2, 2], [2, 2, 2], [1, 1, 1]]


def test_points_are_spread_evenly_with_both_ends():
    assert evenly(4, 5) == evenly(4, POINTS) == [0, 1, 2, 3, 4]
    assert evenly(1000, 5) == [0, 250, 500, 750, 1000]
    assert len(evenly(800, POINTS)) == POINTS and evenly(800, POINTS)[-1] == 800


def test_bfloat16_deltas_give_nearly_the_same_gradient(family, model, base, experts, references):
    deltas = Deltas(base, experts)
    lam = torch.full((3, 3), 0.4)
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        rounded = Blend(model, base, {n: deltas[n].to(dtype) for n in deltas})
        gradients.append(rounded.gradient(lam, lambda: whole_loss(family, model, references, js))[1])
    assert gradients[1].dtype == torch.float32
    assert (gradients[1] - gradients[0]).norm() <= 0.02 * gradients[0].norm()


@pytest.mark.parametrize("rate", [1e30, float("inf")])
def test_coefficients_that_diverge_are_an_error_that_names_the_step(
    family, model, base, experts, references, rate
):
    how = {"level": "layer", "learning_rate": rate, "initial": 1 / 3}
    with pytest.raises(Diverged, match=r"coefficients diverge: step \d of 6, the loss is"):
        fitted(family, model, base, dict(Deltas(base, experts)), references, **how)


@pytest.mark.parametrize("low_rank", [False, True], ids=["dense", "low-rank"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_what_a_step_does_not_write_whole(family, model, examples, tokenizer, monkeypatch, tied, low_rank):
    """Embeddings by rows, heads and low-rank layers not at all: coefficients and merge are the same."""
    torch.manual_seed(1)
    made = type(model)(type(model.config)(**{**model.config.to_dict(), "tie_word_embeddings": tied})).eval()
    if not tied:
        made.lm_head.bias = torch.nn.Parameter(torch.randn(len(made.lm_head.weight)))
    base = {name: p.detach().clone() for name, p in made.named_parameters()}
    tables = [name for name in base if name.endswith(("embed_tokens.weight", "lm_head.weight"))]
    read = Blend(made, base, {name: torch.zeros(1, *theta.shape) for name, theta in base.items()})
    assert list(read.in_parts) == tables and len(tables) == 2 - tied
    tau = {n: 0.3 * torch.randn(2, *theta.shape) for n, theta in base.items() if theta.dim() == 2}
    tau |= {n: 0.3 * torch.randn(2, *theta.shape) for n, theta in base.items() if n == "lm_head.bias"}
    if low_rank:
        for n, (V, d) in [(n, theta.shape) for n, theta in base.items() if theta.dim() == 2]:
            tau[n] = [LowRank(torch.randn(V, rank), torch.randn(rank, d), 0.3) for rank in (2, 3)]
    head = WordHead((base[tables[-1]], None))
    references = [make_reference(family, made, examples(task, 8), 8, head) for task in ("cola", "sst2")]
    how = {"level": "layer", "learning_rate": 0.05, "initial": 0.4, "epochs": 2}

    def run():
        found = fitted(family, made, base, tau, references, **how)
        return found, {n: p.detach().clone() for n, p in made.named_parameters()}

    in_parts, merged = run()
    monkeypatch.setattr(blend, "readers_of", lambda model, tau: {})
    whole, expected = run()
    assert (in_parts.lam - 0.4).abs().max() > 0.05
    assert torch.allclose(in_parts.lam, whole.lam, atol=1e-5)
    assert in_parts.trace == pytest.approx(whole.trace, rel=1e-5)
    assert all(torch.allclose(merged[n], expected[n], atol=1e-5) for n in expected)
    assert (merged[tables[0]] - base[tables[0]]).abs().amax(dim=1).min() > 0  # rows that no input has too
    assert not any(module._forward_pre_hooks for module in made.modules())
    assert not any("forward" in vars(module) for module in made.modules())


@pytest.mark.parametrize("low_rank", [False, True], ids=["dense", "low-rank"])
def test_no_step_waits_for_a_gpu(family, model, base, experts, adapters, references, low_rank):
    deltas = adapters if low_rank else Deltas(base, experts)
    tau = {n: deltas.factors(n) if low_rank else deltas[n] for n in deltas}
    at, lam = Blend(model, base, tau), torch.full((3, 1), 0.4)
    with Waits() as seen:
        at.gradient(lam, lambda: whole_loss(family, model, references, js))
    # transformers looks for packed sequences in each pass, unless it is recorded.
    assert seen.found == ["_local_scalar_dense"] * 3 and seen.calls > 300
    with Waits() as seen:
        (lam > 0.5).any().item(), lam[lam > 0.5], lam.unique(), torch.tensor([1]).bincount()
    assert len(seen.found) == 4


def test_memory_that_nothing_keeps_is_found():
    kept = torch.ones(2)
    with Kept() as seen:
        kept + kept * 2
        kept + torch.tensor([1.0, 2.0])
    assert len(seen.read) == 2 and len(seen.gone()) == 1


@pytest.mark.parametrize("name", ["divmerge", "adamerging"])
@pytest.mark.parametrize("low_rank", [False, True], ids=["dense", "low-rank"])
def test_recorded_steps_are_the_steps(
    family, model, base, experts, adapters, references, monkeypatch, name, low_rank
):
    deltas = adapters if low_rank else Deltas(base, experts)
    tau = {n: deltas.factors(n) if low_rank else deltas[n] for n in deltas}
    given = [r.first_tokens for r in references] if name == "adamerging" else references

    def run():
        how = {"level": "layer", "learning_rate": 0.05, "initial": 0.4, "epochs": 4}
        objective = find(name).objective(find(name).settings({}))
        return fitted(family, model, base, tau, given, objective, **how)

    expected = run()
    graphs = on_a_cpu(monkeypatch)
    found = run()
    played = [graph.played for graph in graphs]
    assert len(played) > 1 and sum(played) > 12
    assert torch.allclose(found.lam, expected.lam, atol=1e-5)
    assert found.trace == pytest.approx(expected.trace, rel=1e-5)
    assert (found.lam - 0.4).abs().max() > 0.05


@pytest.mark.parametrize("divergence", ["kl", "reverse_kl", "js"])
def test_recorded_steps_of_a_model_that_masks_words(
    family, model, base, experts, references, monkeypatch, divergence
):
    """What a recorded step is padded with has no loss, where a word's logarithm is infinite, either."""
    unsaid = torch.arange(len(family.processor)) == 5
    model.lm_head.register_forward_hook(lambda module, given, made: made.masked_fill(unsaid, -torch.inf))
    objective = find("divmerge").objective({"divergence": divergence})
    given = family, model, base, dict(Deltas(base, experts)), references, objective
    expected = fitted(*given)
    graphs = on_a_cpu(monkeypatch)
    monkeypatch.setattr(step, "POSITIONS", 7)
    found = fitted(*given)
    assert graphs and found.trace == pytest.approx(expected.trace, rel=1e-5)


@pytest.mark.parametrize("most", [0, 1])
def test_steps_of_more_shapes_or_that_cannot_be_recorded_are_run(
    family, model, base, experts, references, monkeypatch, most
):
    tau = dict(Deltas(base, experts))

    def run():
        how = {"learning_rate": 0.05, "initial": 0.4, "epochs": 3}
        return fitted(family, model, base, tau, references, **how)

    expected = run()
    graphs = on_a_cpu(monkeypatch)
    if most:
        monkeypatch.setattr(step, "SHAPES", most)
        found = run()
    else:

        def fails(recorder, run, given):
            run(given)
            raise RuntimeError("out of memory\nand more")

        monkeypatch.setattr(OnACpu, "record", fails)
        with pytest.warns(
            UserWarning, match="steps are not recorded on this GPU, which is slower: out of mem"
        ):
            found = run()
    assert len(graphs) == most
    assert torch.allclose(found.lam, expected.lam, atol=1e-5)


def test_a_step_that_cannot_be_recorded_frees_its_memory_before_it_is_run(
    family, model, base, experts, references, monkeypatch
):
    """And so do the steps that were recorded: on a full GPU, the next steps need it."""
    graphs, recorded, ran = on_a_cpu(monkeypatch), OnACpu.record, step.Step._run
    held, found = [], []

    def fails(recorder, run, given):
        if not graphs:
            return recorded(recorder, run, given)
        activations = torch.ones(3)
        held.append(weakref.ref(activations))
        raise RuntimeError("out of memory")

    def noted(self, given):
        if held:
            found.append((held[0]() is not None, len(self.recordings)))
        return ran(self, given)

    monkeypatch.setattr(OnACpu, "record", fails)
    monkeypatch.setattr(step.Step, "_run", noted)
    how = {"level": "task", "learning_rate": 0.05, "initial": 0.4, "epochs": 4, "batch_size": 2}
    with pytest.warns(UserWarning, match="steps are not recorded"):
        fit(family, model, base, dict(Deltas(base, experts)), references, js, **how, seed=3)
    assert len(graphs) == 1 and {*found} == {(False, 0)}


@pytest.mark.parametrize("half", ["experts", "module"])
def test_a_head_in_pieces_is_the_head_as_written(family, model, examples, monkeypatch, half):
    """Several pieces of rows, in half precision too: rounded as writing does, but multiplied in float32."""
    base = {name: p.detach().clone() for name, p in model.named_parameters()}
    name = "model.embed_tokens.weight"
    width = base[name].shape[1]
    monkeypatch.setitem(PIECE, "cpu", 3 * width + 1)
    assert len([*some_rows(base[name])]) > 5
    tau = {name: 0.3 * torch.randn(3, *base[name].shape)}
    if half == "experts":
        tau[name] = Weights((base[name] + tau[name]).bfloat16())
        vectors = tau[name].theta.float() - base[name]
    else:
        vectors = tau[name]
        model.to(torch.bfloat16)
        base = {n: theta.bfloat16() for n, theta in base.items()}
        head = model.lm_head
        head.forward = lambda states: torch.nn.functional.linear(states.float(), head.weight.float())
    batch = family.collate(examples("cola", 6), torch.device("cpu"))
    lam = torch.tensor([[0.3], [0.8], [-0.2]])
    loss, found = Blend(model, base, tau).gradient(lam, lambda: family.logits(model, batch).square().mean())
    at = lam.squeeze(1).requires_grad_()
    merged = base[name].float() + torch.tensordot(at, vectors, dims=1)
    given = dict.fromkeys((f"model.{name}", "model.lm_head.weight"), merged.to(base[name].dtype))

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self):
            return family.logits(self.model, batch).square().mean()

    expected = functional_call(Loss(), given, ())
    (gradient,) = torch.autograd.grad(expected, at)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    close = 1e-5 if half == "experts" else 2e-2  # the states' gradients are bfloat16
    assert torch.allclose(found.squeeze(1), gradient, rtol=close, atol=close * gradient.abs().max().item())


def test_a_model_may_write_into_what_an_embedding_and_a_head_have_read(
    family, model, base, experts, examples, monkeypatch
):
    """CTRL scales what it looks up in place, and Chameleon writes into its logits."""
    model.model.embed_tokens.register_forward_hook(lambda module, given, made: made.mul_(2))
    model.lm_head.register_forward_hook(lambda module, given, made: made.div_(2))
    batch, lam = family.collate(examples("cola", 6), torch.device("cpu")), torch.full((3, 3), 0.4)

    def gradient():
        at = Blend(model, base, dict(Deltas(base, experts)))
        found = at.gradient(lam, lambda: family.logits(model, batch).square().mean())[1]
        return len(at.in_parts), found

    in_parts, found = gradient()
    monkeypatch.setattr(blend, "readers_of", lambda model, tau: {})
    none, expected = gradient()
    assert (in_parts, none) == (1, 0)
    assert torch.allclose(found, expected, rtol=1e-4)


def test_parameters_that_are_numbers_or_empty_or_that_nothing_reads():
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.scale = torch.nn.Linear(3, 4), torch.nn.Parameter(torch.tensor(2.0))
            self.empty, self.unread = (torch.nn.Parameter(torch.ones(n, 3)) for n in (0, 2))
            self.blocks = torch.nn.ModuleList([torch.nn.ParameterDict({"gate": torch.tensor(0.5)})])

        def forward(self, x):
            return self.inner(x).tanh() * self.scale * self.blocks[0]["gate"] + self.empty.sum()

    model, x, lam = Odd(), torch.randn(5, 3), torch.rand(2, 2)
    base = {name: p.detach().clone() for name, p in model.named_parameters()}
    tau = {name: torch.randn(2, *theta.shape) for name, theta in base.items()}
    at = Blend(model, base, tau)
    loss, found = at.gradient(lam, lambda: model(x).square().sum())
    wide = lam.clone().requires_grad_()
    merged = {n: base[n] + torch.tensordot(wide[:, at.column[n]], tau[n], dims=1) for n in base}
    expected = functional_call(model, merged, (x,)).square().sum()
    (gradient,) = torch.autograd.grad(expected, wide)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(found, gradient, rtol=1e-4)


def test_a_weight_that_is_read_past_its_module_is_refused():
    class Past(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(3, 4)

        def forward(self, x):
            return torch.nn.functional.linear(x, self.inner.weight)

    model = Past()
    base = {"inner.weight": model.inner.weight.detach().clone()}
    tau = {"inner.weight": [LowRank(torch.randn(4, 1), torch.randn(1, 3))]}
    with pytest.raises(UserError, match=r"inner\.weight: this architecture's code reads the weight itself"):
        Blend(model, base, tau).gradient(torch.ones(1, 1), lambda: model(torch.randn(2, 3)).sum())
    assert "forward" not in vars(model.inner)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_low_rank_layers_start_from_the_base_whatever_the_module_holds(stored):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    base = {n: torch.randn(p.shape).to(stored) for n, p in model.named_parameters() if n.endswith("weight")}
    tau = {n: [LowRank(torch.randn(len(w), 2), torch.randn(2, w.shape[1]), 0.5)] * 2 for n, w in base.items()}
    x, lam = torch.randn(5, 3), torch.tensor([[0.3], [0.8]])
    loss, found = Blend(model, base, tau).gradient(lam, lambda: model(x).square().sum())
    at = lam.clone().requires_grad_()
    merged = {n: w.float() + at.sum() * tau[n][0].dense() for n, w in base.items()}
    expected = functional_call(model, merged, (x,)).square().sum()
    (gradient,) = torch.autograd.grad(expected, at)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(found.sum(dim=1, keepdim=True), gradient, rtol=1e-4)
    assert all(p.grad is None for n, p in model.named_parameters() if n in tau)


def test_a_padding_row_that_is_read_has_its_part():
    """Torch gives it no gradient; PegasusX begins its answers with it, and a prompt may contain it."""

    class Padded(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.out = torch.nn.Embedding(5, 3, padding_idx=0), torch.nn.Linear(3, 2)

        def forward(self, ids):
            return self.out(self.words(ids)).tanh().sum()

    torch.manual_seed(0)
    model = Padded()
    base = {n: torch.randn(p.shape) for n, p in model.named_parameters()}
    tau = {n: torch.randn(2, *theta.shape) for n, theta in base.items()}
    lam, ids = torch.tensor([[0.3], [0.5]], requires_grad=True), torch.tensor([0, 2, 0])
    theta = {n: base[n] + torch.tensordot(lam[:, 0], tau[n], dims=1) for n in base}
    x = theta["words.weight"][ids] @ theta["out.weight"].T + theta["out.bias"]
    (expected,) = torch.autograd.grad(x.tanh().sum(), lam)
    _, found = Blend(model, base, tau).gradient(lam.detach(), lambda: model(ids))
    torch.testing.assert_close(found, expected)
    assert model.words.padding_idx == 0


def test_a_model_without_one_table_of_words():
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    canine = CanineModel(CanineConfig(**shape, num_hash_buckets=16, num_hash_functions=2)).eval()
    base = {name: p.detach().clone() for name, p in canine.named_parameters()}
    at = Blend(canine, base, {name: torch.ones(1, *theta.shape) for name, theta in base.items()})
    ids = torch.tensor([[97, 98, 99, 100]])
    _, found = at.gradient(torch.ones(1, 1), lambda: canine(ids).last_hidden_state[0, 0, 0])
    assert found.isfinite().all() and found.any()
