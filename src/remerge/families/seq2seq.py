"""Encoder-decoders that answer in words: T5 and others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM

from remerge.errors import UserError
from remerge.families import Batch, Example, pad
from remerge.families._greedy import decode
from remerge.families._text import Text

ANSWER_TOKENS = 64
"""The most tokens that are decoded, unless a gold answer is longer."""


class Seq2Seq(Text):
    """An encoder reads the prompt, a decoder writes the answer and the end token."""

    auto = AutoModelForSeq2SeqLM
    reads = "text"
    speaks = True

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        if not self.config.is_encoder_decoder:
            raise UserError(f"{base}/config.json: no encoder-decoder: set base.family to causal_lm")
        self.must_speak_plainly(base)
        self.start = self.start_of_decoder(base)

    def examples(self, task: str, pairs: Sequence[tuple[Any, Any]]) -> list[Example]:
        """The tokens of prompt and answer, with an end token; a text that is too long loses its end.

        Raises:
            UserError: a prompt has no token.
        """
        prompts = self.cut([prompt for prompt, _ in pairs])
        answers = self.processor(
            text_target=[answer for _, answer in pairs], truncation=self.limited
        ).input_ids
        made = []
        for prompt, answer in zip(prompts, answers, strict=True):
            words = [token for token in answer if token != self.eos]
            made.append(Example(prompt, [*words, self.eos], task))
        return made

    def collate(self, examples: Sequence[Example], device: torch.device, multiple: int = 1) -> Batch:
        """Padded prompts, and answers shifted right after the start token: every position is judged."""
        ids, mask = pad([e.prompt for e in examples], self.fill, multiple, self.limit)
        decoder, _ = pad([[self.start, *e.answer[:-1]] for e in examples], self.fill, multiple, self.limit)
        at = [(i, c) for i, e in enumerate(examples) for c in range(len(e.answer))]
        rows, columns = torch.tensor(at).T
        inputs = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": decoder}
        targets = torch.tensor([t for e in examples for t in e.answer])
        return Batch(inputs, (rows, columns), targets, rows, [e.task for e in examples]).to(device)

    def greedy(
        self, model: nn.Module, examples: Sequence[Example], longest: int | None = None
    ) -> list[list[int]]:
        """Each prompt's greedy answer, with its end token."""
        return decode(self, model, examples, start=self.start, longest=longest or ANSWER_TOKENS)
