"""Decoders that answer in words: Qwen2, Llama and others."""

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from remerge.errors import UserError
from remerge.families import Batch, Example, pad
from remerge.families._greedy import decode
from remerge.families._text import Text

ANSWER_TOKENS = 16
"""The most tokens that are decoded, unless a gold answer is longer."""

UNTOLD = ("gpt_neox", "gpt_neox_japanese")
"""The architectures that are decoders even if their configuration says that they are none."""


class CausalLM(Text):
    """A decoder reads the prompt and continues it with the answer and the end token."""

    auto = AutoModelForCausalLM
    reads = "text"
    speaks = True

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        if self.config.is_encoder_decoder:
            raise UserError(f"{base}: an encoder-decoder: set base.family to seq2seq")
        # An encoder's words see those behind them, so that the answers that are fed in would be read off.
        says = "is_decoder" in signature(type(self.config)).parameters
        if says and not self.config.is_decoder and self.config.model_type not in UNTOLD:
            raise UserError(f"{base}/config.json: is_decoder is false: set base.family to classifier")
        self.must_speak_plainly(base)

    def tokens(self, prompts: Sequence[str]) -> list[list[int]]:
        """The prompts' tokens, not truncated, without the end token that some tokenizers add."""
        return [ids[:-1] if ids[-1:] == [self.eos] else ids for ids in super().tokens(prompts)]

    def continued(self, pairs: Sequence[tuple[Any, Any]]) -> list[list[int]]:
        """The tokens of ``prompt answer``, without an end token."""
        return self.tokens([f"{prompt} {answer}" for prompt, answer in pairs])

    def fitted(self, prompt: list[int], room: int) -> list[int]:
        """What the model reads of a prompt where it reads ``room`` tokens: a long one loses its beginning."""
        return prompt[max(0, len(prompt) - room) :]

    def examples(self, task: str, pairs: Sequence[tuple[Any, Any]]) -> list[Example]:
        """The tokens of ``prompt answer<eos>``, split where the answer begins.

        A prompt that is too long for the model loses its beginning.

        Raises:
            UserError: the end of the prompt and the beginning of the answer share a token, or the prompt has
                no token, or none beside its answer, or an end token stands at its end or in the answer.
        """
        prompts = self.tokens([prompt for prompt, _ in pairs])
        wholes = self.continued(pairs)
        made = []
        for prompt, whole, (text, _) in zip(prompts, wholes, pairs, strict=True):
            if whole[: len(prompt)] != prompt:
                raise UserError(
                    f"prompt {text[-40:]!r}: it shares a token with the answer: end it with a colon"
                )
            answer = [*whole[len(prompt) :], self.eos]
            if answer.index(self.eos) + 1 < len(answer):
                raise UserError(
                    f"prompt {text[-40:]!r}: an end token before the answer's end, where decoding stops: "
                    "leave it out, of prompt and answers"
                )
            read = self.fitted(prompt, self.limit - len(answer))
            if not read:
                room = f"beside an answer of {len(answer)} tokens, " if prompt else ""
                raise UserError(
                    f"prompt {text[-40:]!r}: {room}no token is left for the model to read: "
                    "write words into the prompt, or leave out such examples"
                )
            made.append(Example(read, answer, task))
        return made

    def collate(self, examples: Sequence[Example], device: torch.device, multiple: int = 1) -> Batch:
        """A batch padded on the right: with a causal mask, no judged position sees the padding.

        The last token of an answer is only predicted, never an input.
        """
        ids, _ = pad([[*e.prompt, *e.answer[:-1]] for e in examples], self.fill, multiple, self.limit)
        at = [(i, c) for i, e in enumerate(examples) for c in range(len(e.prompt) - 1, e.length - 1)]
        rows, columns = torch.tensor(at).T
        targets = torch.tensor([t for e in examples for t in e.answer])
        batch = Batch({"input_ids": ids}, (rows, columns), targets, rows, [e.task for e in examples])
        return batch.to(device)

    def greedy(
        self, model: nn.Module, examples: Sequence[Example], longest: int | None = None
    ) -> list[list[int]]:
        """Each prompt's greedy answer, with its end token."""
        return decode(self, model, examples, start=None, longest=longest or ANSWER_TOKENS)
