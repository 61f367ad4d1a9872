"""What the tests of methods compare with."""

import torch


def close(merged, expected, tolerance=1e-5):
    """Every tensor within ``tolerance`` of the largest entry expected, names and dtypes the same."""
    assert list(merged) == list(expected)
    for name, theta in expected.items():
        error = float((merged[name].double() - theta.double()).abs().max())
        assert error <= tolerance * max(float(theta.double().abs().max()), 1e-30), (name, error)


def taus(base, experts, name):
    """The task vectors of a tensor, float64 ``[T, *shape]``."""
    return torch.stack([state[name].double() - base[name].double() for state in experts.values()])


def added(base, merge):
    """theta_0 + merge(name), in float64."""
    return {name: theta.double() + merge(name) for name, theta in base.items()}
