"""Pretrain a miniature base on the corpus."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from remerge.tasks.miniature.corpus import Document, corpus
from remerge.tasks.miniature.muon import Muon
from remerge.tasks.miniature.vocabulary import tokenizer

_VERDICT_WEIGHT = 10.0


def pretrain(
    out: Path,
    *,
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
    """Train a Qwen2 from nothing and save it, with its tokenizer, to `out`.

    The number of steps is fixed and never a time limit: the same settings give the same bytes.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(seed)
    words = tokenizer()
    model = build_model(words, hidden, layers, heads, intermediate)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers" in name]
    rest = [p for name, p in model.named_parameters() if not (p.ndim == 2 and "layers" in name)]
    muon = Muon(matrices, learning_rate)
    adam = torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    # Comparing comes from copying: see the corpus.
    documents = corpus(seed, opening=int(0.15 * steps) * batch_size)
    tokens, losses = 0, []
    model.train()
    bar = tqdm(range(steps), desc="pretraining", unit="step")
    for step, (ids, weights) in zip(bar, _batches(documents, words, batch_size, seed), strict=False):
        loss = _loss(model, ids, weights)
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scale = _schedule(step / steps)
        muon.step(scale)
        adam.param_groups[0]["lr"] = scale * learning_rate
        adam.step()
        tokens += int((weights > 0).sum())
        losses.append(loss.item())
        if step % 50 == 0:
            bar.set_postfix(loss=f"{sum(losses[-50:]) / len(losses[-50:]):.3f}")
    model.eval()  # type: ignore[no-untyped-call]
    model.save_pretrained(out)
    words.save_pretrained(out)
    return {"steps": steps, "tokens": tokens, "loss": sum(losses[-100:]) / len(losses[-100:])}


def build_model(
    words: PreTrainedTokenizerFast, hidden: int, layers: int, heads: int, intermediate: int
) -> Qwen2ForCausalLM:
    """An untrained Qwen2 over these words."""
    config = Qwen2Config(
        vocab_size=(len(words) + 7) // 8 * 8,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.05,
        pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config)


def _schedule(done: float) -> float:
    """Warm up over 4% of the steps, stay, and go down over the last 40%."""
    return min(1.0, done / 0.04 + 0.01) * max(0.03, min(1.0, (1 - done) / 0.4))


def _batches(
    documents: Iterator[Document], words: PreTrainedTokenizerFast, size: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of documents of like length: their tokens, and the weight of each in the loss."""
    rng = Random(f"batches {seed}")
    vocabulary = words.get_vocab()
    while True:
        pool = list(islice(documents, 8 * size))
        pool.sort(key=lambda document: document.text.count(" "))
        chunks = [pool[start : start + size] for start in range(0, len(pool), size)]
        rng.shuffle(chunks)
        for chunk in chunks:
            rows = [[vocabulary[word] for word in document.text.split()] for document in chunk]
            ids = torch.full((size, max(map(len, rows)) + 1), words.pad_token_id)
            weights = torch.zeros(ids.shape)
            for index, (row, document) in enumerate(zip(rows, chunk, strict=True)):
                ids[index, : len(row) + 1] = torch.tensor([*row, words.eos_token_id])
                weights[index, 1 : len(row) + 1] = 1.0
                weights[index, len(row) - 1] += _VERDICT_WEIGHT * document.verdict
            yield ids, weights


def _loss(model: PreTrainedModel, ids: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy of the next tokens; logits are taken only where there is one.

    Padding stands at the right and attention is causal, so that no mask is needed.
    """
    states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets, weights = ids[:, 1:], weights[:, 1:]
    real = weights > 0
    losses = cross_entropy(model.lm_head(states[real]), targets[real], reduction="none")
    return (losses * weights[real]).sum() / real.sum()
