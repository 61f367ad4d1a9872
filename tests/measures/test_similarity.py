"""How alike deltas are, against float64 formulas, numpy and closed cases."""

import numpy as np
import pytest
import torch

from remerge.analysis.agreement import mean_agreement
from remerge.deltas import Deltas
from remerge.measures.similarity import cka, cosines, dropped, sign_counts


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_cosines_of_deltas_are_numpys():
    base = {"a": normal(5, 4), "b": normal(7, seed=1)}
    experts = {
        f"e{t}": {
            name: theta + 0.1 * normal(*theta.shape, seed=10 * t + len(name)) for name, theta in base.items()
        }
        for t in range(1, 4)
    }
    deltas = Deltas(base, experts)
    found = cosines(sum(deltas.gram(name) for name in deltas))
    tau = np.stack(
        [
            np.concatenate([(e[n].double() - base[n].double()).flatten().numpy() for n in base])
            for e in experts.values()
        ]
    )
    unit = tau / np.linalg.norm(tau, axis=1, keepdims=True)
    np.testing.assert_allclose(found.numpy(), unit @ unit.T, atol=1e-6)


def test_cosines_of_the_same_the_opposite_the_orthogonal_and_nothing():
    tau = torch.tensor([[3.0, 0.0], [3.0, 0.0], [-6.0, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    found = cosines(tau @ tau.T)
    assert found[0, :4].tolist() == [1.0, 1.0, -1.0, 0.0]
    assert found[4].isnan().all() and found[:, 4].isnan().all()


def hsic(K, L):
    """Gretton et al.'s estimator of two Gram matrices of examples, times (n - 1)^2."""
    n = len(K)
    H = np.eye(n) - np.ones((n, n)) / n
    return np.trace(K @ H @ L @ H)


def test_cka_is_hsic_of_gram_matrices():
    """The definition, over examples: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) of linear kernels."""
    X, M = normal(40, 6).double() + 2, normal(3, 4, 6, seed=1).double()
    centred = X - X.mean(dim=0)
    found = cka(M, centred.T @ centred)
    kernels = [(Y @ Y.T).numpy() for Y in (X @ m.T for m in M)]
    for s, K in enumerate(kernels):
        for t, L in enumerate(kernels):
            expected = hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
            assert float(found[s, t]) == pytest.approx(expected, rel=1e-9)
    assert 0 < float(found[0, 1]) < 0.9


def test_cka_does_not_see_rotations_and_scale_of_features():
    S = normal(30, 6).double()
    S, M = S.T @ S, normal(2, 5, 6, seed=1).double()
    Q = torch.linalg.qr(normal(5, 5, seed=2).double())[0]
    found = cka(M, S)
    assert float(cka(torch.stack([M[0], Q @ M[0]]), S)[0, 1]) == pytest.approx(1, abs=1e-12)
    turned = torch.stack([-3 * M[0], Q @ M[1]])
    torch.testing.assert_close(cka(turned, S), found, rtol=0, atol=1e-12)
    stretched = torch.stack([torch.diag(torch.arange(1.0, 6.0).double()) @ M[0], M[1]])
    assert abs(float((cka(stretched, S) - found)[0, 1])) > 1e-3


def test_signs_are_tallied_by_position():
    tau = normal(5, 6, 7)
    tau[tau.abs() < 0.5] = 0
    expected = np.zeros((6, 6), int)
    for column in tau.flatten(1).T.tolist():
        expected[sum(x > 0 for x in column), sum(x < 0 for x in column)] += 1
    assert sign_counts(tau).tolist() == expected.tolist()


@pytest.mark.parametrize("experts", [1, 3, 8])
def test_identical_experts_agree_and_half_turned_around_agree_least(experts):
    tau = normal(4, 5).expand(experts, -1, -1)
    assert mean_agreement(sign_counts(tau).tolist()) == 1
    assert mean_agreement(sign_counts(torch.cat([tau, -tau])).tolist()) == 0.5


def test_experts_that_share_no_position_agree():
    assert mean_agreement(sign_counts(torch.diag(torch.tensor([1.0, -2.0, 3.0]))).tolist()) == 1


def test_what_is_dropped_of_each_vector():
    kept = torch.tensor([[[1, 0, 0, 0], [1, 1, 1, 1]], [[0, 0, 0, 0], [1, 1, 0, 0]]]).float()
    assert dropped(kept).tolist() == [[0.75, 0.0], [1.0, 0.5]]
