"""mergekit with remerge's random masks in place of its own, so that all the rest can be compared."""

from pathlib import Path
from types import SimpleNamespace

import torch
from mergekit.merge_methods import generalized_task_arithmetic as kit

from remerge.methods.interference._random import drawn


def same_masks(monkeypatch, seed=0):
    """Have mergekit draw what remerge draws of experts that are named as their ids, or folders, end."""
    now = SimpleNamespace()
    merge_group, sparsify = kit.GeneralizedTaskArithmeticMerge.merge_group, kit.sparsify

    def merged(self, group, /, **parameters):
        now.tensor, now.experts = group.metadata.name, iter([Path(str(e.id)).name for e in group.non_base])
        return merge_group(self, group, **parameters)

    def sparse(delta, **given):
        now.expert = next(now.experts)
        return sparsify(delta, **given)

    def bernoulli(p):
        # What remerge keeps nothing of, it does not draw.
        return drawn(p.reshape(1, -1), seed, [now.expert], now.tensor, 0, p.numel()).view(p.shape) * (p > 0)

    monkeypatch.setattr(kit.GeneralizedTaskArithmeticMerge, "merge_group", merged)
    monkeypatch.setattr(kit, "sparsify", sparse)
    monkeypatch.setattr(torch, "bernoulli", bernoulli)
