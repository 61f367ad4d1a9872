"""Small state dicts with all that is awkward: exact zeros, a tied embedding, 1-D to 3-D shapes."""

import pytest
import torch

from remerge import deltas

SHAPES = {
    "embed_tokens.weight": (11, 6),
    "layers.0.attn.weight": (8, 6),
    "layers.0.norm.weight": (6,),
    "layers.1.mlp.weight": (9, 14),
    "layers.1.conv.weight": (3, 4, 5),
    "norm.bias": (7,),
}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """So that tensors of a test are read in several pieces."""
    monkeypatch.setitem(deltas.PIECE, "cpu", 32)


def state(seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {name: scale * torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    made["lm_head.weight"] = made["embed_tokens.weight"]
    return made


@pytest.fixture
def base():
    return state(0)


@pytest.fixture
def experts(base):
    """Three experts; a fifth of their entries unchanged, one tensor unchanged in one expert, one in all."""
    made = {}
    for seed, name in enumerate(["cola", "mnli", "sst2"], start=1):
        tau = state(seed, 0.5)
        generator = torch.Generator().manual_seed(seed + 100)
        made[name] = {
            k: theta + tau[k] * (torch.rand(theta.shape, generator=generator) > 0.2) * (k != "norm.bias")
            for k, theta in base.items()
            if k != "lm_head.weight"
        }
        made[name]["lm_head.weight"] = made[name]["embed_tokens.weight"]
    made["cola"]["layers.1.conv.weight"] = base["layers.1.conv.weight"].clone()
    return made
