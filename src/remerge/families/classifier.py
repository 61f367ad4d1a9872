"""Models that read text through a classification head: T5, Llama, DeBERTa `…ForSequenceClassification`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from remerge.errors import UserError
from remerge.families import Batch, Example, pad
from remerge.families._headed import Headed
from remerge.families._text import Text

UNMASKED = ("canine", "convbert", "fnet", "mobilebert", "nystromformer", "yoso")
"""The architectures whose bodies read the padding of a batch, whatever its mask says."""


class Classifier(Headed, Text):
    """A body with a head for each task; classes are numbered in the order of the task's answers."""

    auto = AutoModelForSequenceClassification
    reads = "text"
    speaks = False

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        if self.config.model_type in UNMASKED:
            raise UserError(
                f"{base}/config.json: a {self.config.model_type} reads the padding of its batch, so that "
                "scores would depend on it: give another architecture"
            )
        if self.config.is_encoder_decoder:
            self.start_of_decoder(base)
        languages = getattr(self.config, "languages", ())
        if self.config.model_type == "xmod" and self.config.default_language not in languages:
            raise UserError(
                f"{base}/config.json: default_language is {self.config.default_language}: set the language "
                f"of your texts, one of {', '.join(languages)}"
            )

    @property
    def has_segments(self) -> bool:
        """Whether the model distinguishes the two texts of a pair by token types."""
        types = getattr(self.config, "type_vocab_size", None) or 0
        return types > 1 and "token_type_ids" in self.processor.model_input_names

    def load(self, folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
        """A folder's model without its head, in evaluation mode.

        Raises:
            UserError: the folder's weights are missing, damaged or from another architecture.
        """
        model: Any = super().load(folder, dtype, device)
        # The part that reads text looks for the last token by its own configuration, where it has one.
        for config in (model.config, model.config.get_text_config()):
            config.pad_token_id = self.fill
        bare: nn.Module = model
        return bare

    def examples(self, task: str, pairs: Sequence[tuple[Any, Any]]) -> list[Example]:
        """The tokens of the prompt, and the number of the class; a prompt that is too long loses its end.

        Raises:
            UserError: a prompt has no token, or, for an encoder-decoder, no end token or more than others.
        """
        prompts = self.cut([prompt for prompt, _ in pairs])
        self._must_end_alike(prompts)
        return [Example(prompt, [label], task) for prompt, (_, label) in zip(prompts, pairs, strict=True)]

    def collate(self, examples: Sequence[Example], device: torch.device, multiple: int = 1) -> Batch:
        """A batch padded on the right, with one judged position per example.

        If the model has token types, as BERT does, a prompt that contains a separator becomes two segments,
        as when a tokenizer reads a pair of texts.

        Raises:
            UserError: the prompts of two tasks differ in their number of end tokens.
        """
        self._must_end_alike([e.prompt for e in examples])
        ids, mask = pad([e.prompt for e in examples], self.fill, multiple, self.limit)
        rows = torch.arange(len(examples))
        targets = torch.tensor([e.answer[0] for e in examples])
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.has_segments:
            ends = (ids == self.processor.sep_token_id).long()
            inputs["token_type_ids"] = (ends.cumsum(dim=1) - ends).clamp(max=1) * mask
        return Batch(inputs, (rows,), targets, rows, [e.task for e in examples]).to(device)

    def _must_end_alike(self, prompts: Sequence[Any]) -> None:
        """Refuse prompts without an end token or with their own: an encoder-decoder reads at the last one."""
        if not self.config.is_encoder_decoder:
            return
        end = self.config.eos_token_id
        counts = [prompt.count(end) for prompt in prompts]
        if not min(counts):
            raise UserError(
                f"{self.processor.name_or_path}: the tokenizer does not end a prompt with token {end}, "
                "the eos_token_id of config.json, where a head reads: give the tokenizer that belongs to it"
            )
        if max(counts) > min(counts):
            most = self.processor.decode(prompts[counts.index(max(counts))])
            raise UserError(
                f"prompt {most[:60]!r}: more of {self.processor.decode([end])} than in other prompts, and a "
                "head reads where the last one is: leave it out"
            )
