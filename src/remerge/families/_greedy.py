"""Greedy answers of models that speak."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import GenerationConfig

from remerge.amounts import ANSWERS_AT_ONCE
from remerge.families import Example, by_length

if TYPE_CHECKING:
    from remerge.families._text import Text


def decode(
    text: "Text", model: nn.Module, examples: Sequence[Example], start: int | None, longest: int
) -> list[list[int]]:
    """Greedy answers with their end token, decoded with a KV cache, batched by length.

    Args:
        text: the family.
        model: the model that answers.
        examples: the prompts.
        start: the token that a decoder's words begin with; None if they continue the prompt.
        longest: the most tokens to decode, unless the longest gold answer has more; fewer where the model
            reads no more.
    """
    longest, left = max([longest, *(len(e.answer) for e in examples)]), start is None
    # The last token is not read again, and an encoder's prompt takes no place in the decoder.
    rooms = [min(longest, text.limit + 1 - (len(e.prompt) if left else 1)) for e in examples]
    whole = left and _reads_padding(model)
    kinds = [(room, len(e.prompt) if whole else 0) for room, e in zip(rooms, examples, strict=True)]
    answers: dict[int, list[int]] = {}
    with _nothing_else(model):
        for room, length in set(kinds):
            alike = [i for i, kind in enumerate(kinds) if kind == (room, length)]
            for some in by_length([examples[i] for i in alike], ANSWERS_AT_ONCE):
                chunk = [alike[k] for k in some]
                said = _decoded(text, model, [list(examples[i].prompt) for i in chunk], start, room)
                answers |= dict(zip(chunk, said, strict=True))
    return [answers[i] for i in range(len(examples))]


def _reads_padding(decoder: Any) -> bool:
    """Whether padding on the left may change a decoder's answers: then a batch has prompts of one length.

    A model that is not told positions counts them from the padding; a recurrent one may remember it.
    """
    return "position_ids" not in signature(decoder.forward).parameters or bool(decoder._is_stateful)


def _decoded(
    text: "Text", model: Any, prompts: list[list[int]], start: int | None, longest: int
) -> list[list[int]]:
    """The greedy answers of one batch, padded on the left if they continue the prompts."""
    left = start is None
    limits = {"max_new_tokens": longest, "eos_token_id": text.eos, "pad_token_id": text.fill}
    how = GenerationConfig(do_sample=False, decoder_start_token_id=start, **limits)  # type: ignore[no-untyped-call]
    device = next(model.parameters()).device
    width = max(map(len, prompts))
    empty = [width - len(p) for p in prompts]
    ids = [[text.fill] * e + p if left else p + [text.fill] * e for p, e in zip(prompts, empty, strict=True)]
    seen = [
        [0] * e + [1] * len(p) if left else [1] * len(p) + [0] * e
        for p, e in zip(prompts, empty, strict=True)
    ]
    out = model.generate(
        torch.tensor(ids, device=device),
        attention_mask=torch.tensor(seen, device=device),
        generation_config=how,
    )
    # A decoder's output begins with the prompt, an encoder-decoder's with its start token.
    said = out[:, width if left else 1 :].tolist()
    return [tokens[: tokens.index(text.eos) + 1] if text.eos in tokens else tokens for tokens in said]


@contextmanager
def _nothing_else(decoder: Any) -> Iterator[None]:
    """Decode as is asked for alone.

    A checkpoint's own file would add penalties and beams, its configuration a loss of a mixture's routers.
    """
    own, config = decoder.generation_config, decoder.config
    routed = getattr(config, "output_router_logits", None)
    decoder.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    if routed:
        config.output_router_logits = False
    try:
        yield
    finally:
        decoder.generation_config = own
        if routed:
            config.output_router_logits = True
