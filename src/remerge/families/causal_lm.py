"""Decoders that answer in words: Qwen2, Llama and their like."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from remerge.errors import UserError
from remerge.families import Batch, Example, pad
from remerge.families._text import Text

ANSWER_TOKENS = 16
"""At most so many tokens are decoded where no gold answer is longer."""


class CausalLM(Text):
    """A decoder reads the prompt and goes on with the answer and the end token."""

    auto = AutoModelForCausalLM
    reads = "text"
    speaks = True

    def tokens(self, prompts: Sequence[str]) -> list[list[int]]:
        """The tokens of prompts, none cut, without the end token that some tokenizers add."""
        return [ids[:-1] if ids[-1:] == [self.eos] else ids for ids in super().tokens(prompts)]

    def examples(self, task: str, pairs: Sequence[tuple[Any, Any]]) -> list[Example]:
        """The tokens of ``prompt answer<eos>``, split where the answer begins.

        A prompt too long for the model loses its beginning.

        Raises:
            UserError: the prompt's last token would fuse with the answer's first.
        """
        limit = self.processor.model_max_length
        prompts = self.tokens([prompt for prompt, _ in pairs])
        wholes = self.tokens([f"{prompt} {answer}" for prompt, answer in pairs])
        made = []
        for prompt, whole, (text, _) in zip(prompts, wholes, pairs, strict=True):
            if whole[: len(prompt)] != prompt:
                raise UserError(
                    f"prompt {text[-40:]!r}: it shares a token with the answer: end it with a colon"
                )
            answer = [*whole[len(prompt) :], self.eos]
            made.append(Example(prompt[max(0, len(prompt) + len(answer) - limit) :], answer, task))
        return made

    def collate(self, examples: Sequence[Example], device: torch.device) -> Batch:
        """A right-padded batch: under a causal mask the padding is seen by no judged position.

        The last token of an answer is judged and never read.
        """
        ids, _ = pad([[*e.prompt, *e.answer[:-1]] for e in examples], self.fill)
        at = [(i, c) for i, e in enumerate(examples) for c in range(len(e.prompt) - 1, e.length - 1)]
        rows, columns = torch.tensor(at, device=device).T
        targets = torch.tensor([t for e in examples for t in e.answer], device=device)
        return Batch(
            {"input_ids": ids.to(device)}, (rows, columns), targets, rows, [e.task for e in examples]
        )

    def greedy(self, model: nn.Module, examples: Sequence[Example]) -> list[list[int]]:
        """Each prompt's greedy answer with its end token."""
        return self.decode(model, examples, left=True, longest=ANSWER_TOKENS)
