"""Training of every miniature base from scratch: Muon for the matrices, AdamW for the rest."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from remerge.miniature.muon import Muon


def train(model: Any, losses: Iterator[Tensor], steps: int, learning_rate: float) -> float:
    """Take a step on each of the first ``steps`` losses.

    Args:
        model: a transformers model; it is left in evaluation mode.
        losses: the losses of successive batches, each computed when it is requested.
        steps: a fixed number and not a time limit, so that the same settings give the same bytes.
        learning_rate: the peak learning rate of both optimisers.

    Returns:
        The mean loss of the last hundred steps.
    """
    head = model.get_output_embeddings()
    matrices = [m.weight for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
    rest = [p for p in model.parameters() if all(p is not matrix for matrix in matrices)]
    muon = Muon(matrices, learning_rate)
    adam = torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    seen: list[float] = []
    model.train()
    bar = tqdm(range(steps), desc="pretraining", unit="step")
    for step, loss in zip(bar, losses, strict=False):
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scale = _schedule(step / steps)
        muon.step(scale)
        adam.param_groups[0]["lr"] = scale * learning_rate
        adam.step()
        seen.append(loss.item())
        if step % 50 == 0:
            bar.set_postfix(loss=f"{sum(seen[-50:]) / len(seen[-50:]):.3f}")
    model.eval()
    return sum(seen[-100:]) / len(seen[-100:])


def _schedule(done: float) -> float:
    """Warm up over 4% of the steps, stay constant, and decrease over the last 40%."""
    return min(1.0, done / 0.04 + 0.01) * max(0.03, min(1.0, (1 - done) / 0.4))
