"""Models as transformers loads them, and whether their tensors are those expected."""

import torch
from transformers import AutoModelForCausalLM

from remerge.checkpoints.models import state_of


def loaded(folder, auto=AutoModelForCausalLM):
    return state_of(auto.from_pretrained(folder))


def close(found, expected, error=1e-6):
    """The same names, and tensors of the same dtypes and nearly the same numbers, small and large."""
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=error, rtol=error)
