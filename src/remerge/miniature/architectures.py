"""The architectures that the miniature world pretrains, and how they differ.

Each has its own untrained model of a given size, stream of documents, batches, and loss.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from remerge.miniature.corpus import Document, corpus
from remerge.miniature.pairs import Pair, pairs

_VERDICT_WEIGHT = 10.0
"""The extra weight of a document's verdict, relative to any word, in decoders, which learn every word."""
_ANSWER_WEIGHT = 4.0
"""The same in models that learn only a few of the words."""
_MASKED = 0.2
"""The share of the words of a text that are masked."""

Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Size:
    """The size of a model; an encoder-decoder has this number of layers in each half."""

    hidden: int
    layers: int
    heads: int
    intermediate: int


@dataclass(frozen=True)
class Architecture:
    """How models of an architecture are made and pretrained.

    Attributes:
        build: makes an untrained model for a tokenizer's words.
        stream: endless documents from a seed, with an opening of a given number of documents.
        length: the length of a document; documents with similar lengths form a batch.
        batch: the tensors of some documents; the last one holds the weight of each target in the loss.
        loss: the loss of such a batch.
        opening: the opening's share of the steps; copying teaches models to compare (see the corpus).
    """

    build: Callable[[PreTrainedTokenizerFast, Size], Any]
    stream: Callable[[int, int], Iterator[Any]]
    length: Callable[[Any], int]
    batch: Callable[[Sequence[Any], PreTrainedTokenizerFast, Random], Batch]
    loss: Callable[[Any, Batch], Tensor]
    opening: float = 0.15


def _weighed(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of the targets' cross-entropies, divided by their number."""
    return (cross_entropy(logits, targets, reduction="none") * weights).sum() / len(weights)


# --- decoders ------------------------------------------------------------------------------------


def _shared(words: PreTrainedTokenizerFast, size: Size) -> dict[str, Any]:
    """The settings that have the same names in all configurations but T5's."""
    return {
        "vocab_size": _rounded(len(words)),
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "max_position_embeddings": 256,
        "initializer_range": 0.05,
        "pad_token_id": words.pad_token_id,
        "eos_token_id": words.eos_token_id,
        "bos_token_id": None,
    }


def _rounded(count: int) -> int:
    return (count + 7) // 8 * 8


def _qwen2(words: PreTrainedTokenizerFast, size: Size) -> Qwen2ForCausalLM:
    shared = _shared(words, size)
    return Qwen2ForCausalLM(Qwen2Config(num_key_value_heads=size.heads, tie_word_embeddings=True, **shared))


def _llama(words: PreTrainedTokenizerFast, size: Size) -> LlamaForCausalLM:
    shared = _shared(words, size)
    return LlamaForCausalLM(LlamaConfig(num_key_value_heads=size.heads, tie_word_embeddings=True, **shared))


def _document_length(document: Document) -> int:
    return document.text.count(" ")


def _next_words(documents: Sequence[Document], words: PreTrainedTokenizerFast, rng: Random) -> Batch:
    """The tokens of documents, and the weight of each in the loss."""
    vocabulary = words.get_vocab()
    rows = [[vocabulary[word] for word in document.text.split()] for document in documents]
    ids = torch.full((len(rows), max(map(len, rows)) + 1), words.pad_token_id)
    weights = torch.zeros(ids.shape)
    for index, (row, document) in enumerate(zip(rows, documents, strict=True)):
        ids[index, : len(row) + 1] = torch.tensor([*row, words.eos_token_id])
        weights[index, 1 : len(row) + 1] = 1.0
        weights[index, len(row) - 1] += _VERDICT_WEIGHT * document.verdict
    return ids, weights


def _causal_loss(model: Any, batch: Batch) -> Tensor:
    """Weighted cross-entropy of the next tokens; logits are computed only where there is one.

    Padding is on the right and attention is causal, so no mask is needed.
    """
    ids, weights = batch
    states = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    targets, weights = ids[:, 1:], weights[:, 1:]
    real = weights > 0
    return _weighed(model.lm_head(states[real]), targets[real], weights[real])


# --- T5 ------------------------------------------------------------------------------------------


def _t5(words: PreTrainedTokenizerFast, size: Size) -> Any:
    config = {
        "vocab_size": _rounded(len(words)),
        "d_model": size.hidden,
        "d_kv": size.hidden // size.heads,
        "d_ff": size.intermediate,
        "num_layers": size.layers,
        "num_decoder_layers": size.layers,
        "num_heads": size.heads,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
        "initializer_factor": 0.5,
        "tie_word_embeddings": True,
        "pad_token_id": words.pad_token_id,
        "eos_token_id": words.eos_token_id,
        "decoder_start_token_id": words.pad_token_id,
    }
    model: Any = T5ForConditionalGeneration(T5Config.from_dict(config))
    for name, weight in model.named_parameters():
        if "layer_norm" in name:
            torch.nn.init.ones_(weight)
    # T5 scales its outputs down to suit embeddings twenty times as large, which learn slowly. Undo this.
    torch.nn.init.normal_(model.shared.weight, std=0.05)
    torch.nn.init.constant_(model.decoder.final_layer_norm.weight, size.hidden**0.5)
    # Half of the heads start by seeing mainly what is near, the others everything equally, because biases
    # take long to grow.
    slopes = torch.tensor([2.0 / 4**head if head < size.heads // 2 else 0.0 for head in range(size.heads)])
    for stack, directions in ((model.encoder, 2), (model.decoder, 1)):
        bias = stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        distance = torch.arange(len(bias)) % (len(bias) // directions)
        bias.data = -distance[:, None] * slopes
    return model


def _pair_length(pair: Pair) -> int:
    return pair.source.count(" ")


def _to_targets(drawn: Sequence[Pair], words: PreTrainedTokenizerFast, rng: Random) -> Batch:
    """Sources, targets, and each target's weight in the loss."""
    vocabulary = words.get_vocab()
    sources = [[vocabulary[w] for w in pair.source.split()] + [words.eos_token_id] for pair in drawn]
    targets = [[vocabulary[w] for w in pair.target.split()] + [words.eos_token_id] for pair in drawn]
    ids = torch.full((len(drawn), max(map(len, sources))), words.pad_token_id)
    labels = torch.full((len(drawn), max(map(len, targets))), words.pad_token_id)
    weights = torch.zeros(labels.shape)
    for index, (source, target, pair) in enumerate(zip(sources, targets, drawn, strict=True)):
        ids[index, : len(source)] = torch.tensor(source)
        labels[index, : len(target)] = torch.tensor(target)
        weights[index, : len(target)] = 1.0
        weights[index, : len(target) - 1] += _ANSWER_WEIGHT / (len(target) - 1) * pair.verdict
    return ids, labels, weights


def _target_loss(model: Any, batch: Batch) -> Tensor:
    """Weighted cross-entropy of the targets."""
    ids, labels, weights = batch
    shifted = torch.cat([torch.full_like(labels[:, :1], model.config.pad_token_id), labels[:, :-1]], dim=1)
    mask = (ids != model.config.pad_token_id).long()
    logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=shifted, use_cache=False).logits
    real = weights > 0
    return _weighed(logits[real], labels[real], weights[real])


# --- DeBERTa -------------------------------------------------------------------------------------


def _deberta(words: PreTrainedTokenizerFast, size: Size) -> DebertaV2ForMaskedLM:
    config = {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 32,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
        "type_vocab_size": 0,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "pooler_hidden_size": size.hidden,
        "pooler_hidden_act": "gelu",
        "pooler_dropout": 0.0,
        **_shared(words, size),
    }
    return DebertaV2ForMaskedLM(DebertaV2Config.from_dict(config))


def _masked(documents: Sequence[Document], words: PreTrainedTokenizerFast, rng: Random) -> Batch:
    """Partly masked tokens, the targets, and each target's weight in the loss.

    In a skill, only the verdict is masked, and the words that it follows from are kept. The first token must
    predict it too, as BERT's predicts whether one sentence follows another, because heads read that token.
    The guess that ends a task's prompt is treated in the same way, although the first token cannot learn to
    predict it.
    """
    vocabulary = words.get_vocab()
    rows = [[vocabulary[word] for word in document.text.split()] for document in documents]
    ids = torch.full((len(rows), max(map(len, rows)) + 2), words.pad_token_id)
    targets, weights = ids.clone(), torch.zeros(ids.shape)
    for index, (row, document) in enumerate(zip(rows, documents, strict=True)):
        whole = torch.tensor([words.cls_token_id, *row, words.sep_token_id])
        ids[index, : len(whole)] = targets[index, : len(whole)] = whole
        if document.verdict or document.guess:
            ids[index, len(row)] = words.mask_token_id
            targets[index, 0] = row[-1]
            weights[index, [0, len(row)]] = 1.0 + _ANSWER_WEIGHT
        else:
            hidden = rng.sample(range(1, len(row) + 1), max(1, round(_MASKED * len(row))))
            ids[index, hidden] = words.mask_token_id
            weights[index, hidden] = 1.0
    return ids, targets, weights


def _masked_loss(model: Any, batch: Batch) -> Tensor:
    """Weighted cross-entropy of the targets where they have weight."""
    ids, targets, weights = batch
    mask = (ids != model.config.pad_token_id).long()
    real = weights > 0
    states = model.deberta(input_ids=ids, attention_mask=mask).last_hidden_state
    return _weighed(model.cls(states[real]), targets[real], weights[real])


ARCHITECTURES = {
    "qwen2": Architecture(_qwen2, corpus, _document_length, _next_words, _causal_loss),
    "llama": Architecture(_llama, corpus, _document_length, _next_words, _causal_loss),
    "t5": Architecture(_t5, pairs, _pair_length, _to_targets, _target_loss, opening=0.35),
    "deberta": Architecture(_deberta, corpus, _document_length, _masked, _masked_loss),
}
