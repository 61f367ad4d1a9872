"""Pretrain a miniature base on the corpus."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from remerge.tasks.miniature.architectures import ARCHITECTURES, Architecture, Batch, Size
from remerge.tasks.miniature.muon import Muon
from remerge.tasks.miniature.vocabulary import tokenizer


def pretrain(
    out: Path,
    *,
    architecture: str = "qwen2",
    seed: int = 0,
    steps: int = 2400,
    hidden: int = 128,
    layers: int = 3,
    heads: int = 4,
    intermediate: int = 256,
    learning_rate: float = 3e-3,
    batch_size: int = 64,
    threads: int = 2,
) -> dict[str, Any]:
    """Train a model of an architecture from nothing and save it, with its tokenizer, to `out`.

    The number of steps is fixed and never a time limit: the same settings give the same bytes.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(seed)
    kind, words = ARCHITECTURES[architecture], tokenizer(architecture)
    model = kind.build(words, Size(hidden, layers, heads, intermediate))
    head = model.get_output_embeddings()
    matrices = [m.weight for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
    rest = [p for p in model.parameters() if all(p is not matrix for matrix in matrices)]
    muon = Muon(matrices, learning_rate)
    adam = torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    documents = kind.stream(seed, int(kind.opening * steps) * batch_size)
    tokens, losses = 0, []
    model.train()
    bar = tqdm(range(steps), desc="pretraining", unit="step")
    for step, batch in zip(bar, _batches(kind, documents, words, batch_size, seed), strict=False):
        loss = kind.loss(model, batch)
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scale = _schedule(step / steps)
        muon.step(scale)
        adam.param_groups[0]["lr"] = scale * learning_rate
        adam.step()
        tokens += int((batch[-1] > 0).sum())
        losses.append(loss.item())
        if step % 50 == 0:
            bar.set_postfix(loss=f"{sum(losses[-50:]) / len(losses[-50:]):.3f}")
    model.eval()
    model.save_pretrained(out)
    words.save_pretrained(out)
    return {"steps": steps, "tokens": tokens, "loss": sum(losses[-100:]) / len(losses[-100:])}


def _schedule(done: float) -> float:
    """Warm up over 4% of the steps, stay, and go down over the last 40%."""
    return min(1.0, done / 0.04 + 0.01) * max(0.03, min(1.0, (1 - done) / 0.4))


def _batches(
    kind: Architecture, documents: Iterator[Any], words: PreTrainedTokenizerFast, size: int, seed: int
) -> Iterator[Batch]:
    """Batches of documents of like length."""
    rng = Random(f"batches {seed}")
    while True:
        pool = list(islice(documents, 8 * size))
        pool.sort(key=kind.length)
        chunks = [pool[start : start + size] for start in range(0, len(pool), size)]
        rng.shuffle(chunks)
        for chunk in chunks:
            yield kind.batch(chunk, words, rng)
