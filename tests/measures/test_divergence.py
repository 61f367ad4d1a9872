"""KL and JS against torch.distributions in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, kl_divergence

from remerge.measures.divergence import DIVERGENCES, js, kl, reverse_kl
from remerge.methods import find

adamerging = find("adamerging")


@st.composite
def pairs(draw):
    """Log-probabilities of two models at some positions, peaked or flat."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    shape = draw(st.integers(1, 4)), draw(st.integers(2, 30))
    sharpness = draw(st.sampled_from([0.0, 1.0, 10.0, 60.0]))
    logits = sharpness * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    p, q = logits.log_softmax(dim=-1)
    return p, q


@settings(max_examples=60, deadline=None, derandomize=True)
@given(pairs())
def test_against_torch_distributions(pair):
    p, q = pair
    P, Q = Categorical(logits=p), Categorical(logits=q)
    M = Categorical(probs=(p.exp() + q.exp()) / 2)
    torch.testing.assert_close(kl(p, q), kl_divergence(P, Q))
    torch.testing.assert_close(reverse_kl(p, q), kl_divergence(Q, P))
    expected = (kl_divergence(P, M) + kl_divergence(Q, M)) / 2
    torch.testing.assert_close(js(p, q), expected, rtol=1e-6, atol=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(pairs())
def test_bounds_and_symmetry(pair):
    p, q = (x.float() for x in pair)
    assert float(js(p, q).min()) >= -1e-6
    assert float(js(p, q).max()) <= math.log(2) + 1e-6
    torch.testing.assert_close(js(p, q), js(q, p))
    for divergence in DIVERGENCES.values():
        assert float(divergence(p, q).min()) >= -1e-5
        assert float(divergence(p, p).abs().max()) == pytest.approx(0, abs=1e-6)


def test_js_of_disjoint_distributions_is_ln_2():
    p, q = (torch.tensor(x).log().clamp_min(-1e4) for x in ([1.0, 0.0], [0.0, 1.0]))
    assert float(js(p, q)) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    "measure", [*DIVERGENCES.values(), adamerging.function], ids=[*DIVERGENCES, "entropy"]
)
def test_words_that_are_masked_count_for_nothing(measure):
    """The same value and gradient as without them; only KL is infinite where one model says such a word."""
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    found = []
    for width in (4, 5):
        p, q = (x[:, :width].clone().requires_grad_() for x in logits)
        masked = torch.arange(width) == 4
        value = measure(*(x.masked_fill(masked, -math.inf).log_softmax(dim=-1) for x in (p, q)))
        found.append((value, *torch.autograd.grad(value.sum(), q)))
    (value, gradient), (same, whole) = found
    torch.testing.assert_close(same, value)
    torch.testing.assert_close(whole, torch.nn.functional.pad(gradient, (0, 1)))
    less, more = (torch.tensor(x).log() for x in ([1.0, 0.0], [0.5, 0.5]))
    assert (kl(more, less), reverse_kl(less, more)) == (math.inf, math.inf)
    assert 0 < float(js(more, less)) < math.log(2)


@pytest.mark.parametrize("divergence", DIVERGENCES.values())
def test_gradients_are_finite_where_probabilities_vanish(divergence):
    p = torch.tensor([[0.0, -200.0, -300.0]])
    q = torch.tensor([[-250.0, 0.0, -1.0]], requires_grad=True)
    divergence(p, q.log_softmax(dim=-1)).sum().backward()
    assert bool(torch.isfinite(q.grad).all())
