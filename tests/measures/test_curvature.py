"""Fisher information and Gram matrices against their definitions."""

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from remerge.deltas import Deltas
from remerge.errors import UserError
from remerge.measures.curvature import fisher, grams, scatters
from remerge.methods.statistics.regmean import regmean


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3, bias=False))


@pytest.fixture
def inputs():
    return [torch.randn(1, 4, generator=torch.Generator().manual_seed(i)) for i in range(6)]


def logits(model, x):
    return model(x)


def test_weighted_fisher_is_the_expectation_over_labels(model, inputs):
    found = fisher(model, inputs, logits, labels="weighted")
    model.eval()
    for name, p in model.named_parameters():
        expected = torch.zeros_like(p)
        for x in inputs:
            log_pi = model(x)[0].log_softmax(-1)
            for y in range(3):
                (g,) = torch.autograd.grad(log_pi[y], p, retain_graph=True)
                expected += log_pi[y].exp().detach() * g**2 / len(inputs)
        torch.testing.assert_close(found[name], expected)


def test_positions_of_a_sequence_add_up(model, inputs):
    sequence = torch.cat(inputs[:3])
    whole = fisher(model, [sequence], logits, labels="weighted")
    parts = fisher(model, inputs[:3], logits, labels="weighted")
    for name, f in whole.items():
        torch.testing.assert_close(f, 3 * parts[name])


def test_sampled_fisher_tends_to_the_weighted(model, inputs):
    sampled = fisher(model, inputs * 400, logits, seed=1)
    weighted = fisher(model, inputs, logits, labels="weighted")
    for name, f in weighted.items():
        assert float((sampled[name] - f).norm() / f.norm()) < 0.15
    again = fisher(model, inputs * 400, logits, seed=1)
    assert all(torch.equal(again[name], f) for name, f in sampled.items())


def test_statistics_leave_the_model_as_it_was(model, inputs):
    model.train()
    fisher(model, inputs, logits)
    grams(model, inputs, logits)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_grams_are_sums_over_tokens(model):
    x = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0))
    model.eval()
    found, seen = grams(model, [x[:1], x[1:, :3]], logits), torch.cat([x[0], x[1, :3]])
    torch.testing.assert_close(found["0.weight"], seen.T @ seen)
    hidden = model[:3](seen)
    torch.testing.assert_close(found["3.weight"], hidden.T @ hidden)


def test_scatters_are_centred(model):
    x = 5 + torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0))
    model.eval()
    found, seen = scatters(model, [x[:1], x[1:, :3]], logits), torch.cat([x[0], x[1, :3]])
    for name, features in (("0.weight", seen), ("3.weight", model[:3](seen).detach())):
        centred = (features - features.double().mean(dim=0)).double()
        torch.testing.assert_close(found[name], centred.T @ centred, rtol=1e-6, atol=1e-6)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.inner, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.inner(self.embed(ids)))


def test_a_tied_head_has_no_gram_and_one_information():
    model, ids = Tied(), torch.tensor([[1, 2, 3]])
    found = grams(model, [ids], lambda m, b: m(b)[0])
    assert list(found) == ["inner.weight"]
    assert set(fisher(model, [ids], lambda m, b: m(b)[0])) == {"embed.weight", "inner.weight", "inner.bias"}


def test_a_padding_row_that_is_read_informs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4, padding_idx=0), nn.Linear(4, 3))
    found = fisher(model, [torch.tensor([0, 2])], logits)["0.weight"]
    assert found.bool().any(dim=1).tolist() == [True, False, True, False, False]
    assert model[0].padding_idx == 0


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])

    def forward(self, x):
        return self.experts[int(x.sum() > 0)](x)


def test_an_expert_of_a_mixture_that_no_input_chose_weighs_nothing():
    """Two models' inputs may choose different experts: each of these is then the one model's own."""
    torch.manual_seed(0)
    states, found = {}, {}
    for name, sign in (("a", 1), ("b", -1)):
        model = Mixture()
        x = sign * torch.rand(9, 4)
        found[name] = grams(model, [x], logits)
        states[name] = {n: p.detach() for n, p in model.named_parameters()}
    assert list(found["a"]) == ["experts.0.weight", "experts.1.weight"]
    assert not found["a"]["experts.0.weight"].any() and found["a"]["experts.1.weight"].all()
    base = {n: torch.zeros_like(p) for n, p in states["a"].items()}
    merged = dict(regmean(Deltas(base, states), statistics=found))
    for place, owner in (("experts.0.weight", "b"), ("experts.1.weight", "a")):
        torch.testing.assert_close(merged[place], states[owner][place])


def test_an_architecture_without_linear_layers():
    with pytest.raises(UserError, match=r"statistics: Conv1d is not made of nn\.Linear"):
        grams(nn.Conv1d(3, 3, 1), [torch.ones(1, 3, 1)], logits)


@pytest.mark.parametrize("tied", [True, False])
def test_gpt2_is_refused_even_if_its_head_is_a_linear_layer(tied):
    """Its others are of another type, whose matrices are transposed: all of them would be averaged."""
    shape = {"n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 9, "tie_word_embeddings": tied}
    gpt2 = GPT2LMHeadModel(GPT2Config(**shape))
    with pytest.raises(UserError, match=r"statistics: GPT2LMHeadModel is not made of nn\.Linear"):
        grams(gpt2, [torch.tensor([[1, 2]])], lambda m, b: m(b).logits)


def test_no_inputs(model):
    with pytest.raises(UserError, match="no examples"):
        fisher(model, [], logits)
    with pytest.raises(UserError, match="no inputs reached a linear layer"):
        grams(model, [], logits)
