"""Decoders that answer in words: Qwen2, Llama and their like."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from remerge.errors import UserError
from remerge.families import Batch, Example
from remerge.models import load_whole

ANSWER_TOKENS = 16
"""At most so many tokens are decoded where no answer sets the length."""


class CausalLM:
    """A decoder reads the prompt and goes on with the answer and the end token."""

    def load(self, folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
        """The model of a folder, in evaluation mode.

        Raises:
            UserError: the folder's weights are missing, broken or another architecture's.
        """
        return load_whole(AutoModelForCausalLM, folder, dtype).to(device)

    def tokenizer(self, folder: Path) -> Any:
        """The tokenizer of a folder.

        Raises:
            UserError: there is none, or it has no end token.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            positions = AutoConfig.from_pretrained(folder).max_position_embeddings
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: no tokenizer ({str(error).splitlines()[0]})") from None
        if tokenizer.eos_token_id is None:
            raise UserError(f"{folder}: the tokenizer has no end token: set eos_token")
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
        return tokenizer

    def examples(self, tokenizer: Any, texts: Sequence[tuple[str, str]]) -> list[Example]:
        """The tokens of ``prompt answer<eos>``, split where the answer begins.

        A prompt too long for the model loses its beginning.

        Raises:
            UserError: the prompt's last token would fuse with the answer's first.
        """
        limit = tokenizer.model_max_length
        prompts = tokenizer([prompt for prompt, _ in texts], verbose=False).input_ids
        wholes = tokenizer([f"{prompt} {answer}" for prompt, answer in texts], verbose=False).input_ids
        made = []
        for prompt, whole, (text, _) in zip(prompts, wholes, texts, strict=True):
            if prompt[-1:] == [tokenizer.eos_token_id]:
                prompt, whole = prompt[:-1], whole[:-1]
            if whole[: len(prompt)] != prompt:
                raise UserError(f"prompt {text[-40:]!r}: its end fuses with the answer: end it with a colon")
            answer = [*whole[len(prompt) :], tokenizer.eos_token_id]
            made.append(Example(prompt[max(0, len(prompt) + len(answer) - limit) :], answer))
        return made

    def labels(self, tokenizer: Any, prompt: str, answers: Sequence[str]) -> list[int] | None:
        """The first token of every possible answer, or None if two share it."""
        examples = self.examples(tokenizer, [(prompt, answer) for answer in answers])
        first = [example.answer[0] for example in examples]
        return first if len(set(first)) == len(first) else None

    def collate(self, examples: Sequence[Example], device: torch.device) -> Batch:
        """A right-padded batch: under a causal mask the padding is seen by no judged position."""
        ids = torch.zeros(len(examples), max(e.length for e in examples), dtype=torch.long)
        row: list[int] = []
        column: list[int] = []
        for i, example in enumerate(examples):
            ids[i, : example.length] = torch.tensor(example.prompt + example.answer)
            row += [i] * len(example.answer)
            column += range(len(example.prompt) - 1, example.length - 1)
        rows = torch.tensor(row, device=device)
        targets = torch.tensor([t for e in examples for t in e.answer], device=device)
        positions = (rows, torch.tensor(column, device=device))
        return Batch({"input_ids": ids.to(device)}, positions, targets, rows, len(examples))

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """The logits at the judged positions, float32 ``[N, V]``: the head runs on these alone."""
        body: Any = model
        hidden = body.base_model(**batch.inputs, use_cache=False).last_hidden_state
        logits: Tensor = body.get_output_embeddings()(hidden[batch.positions])
        return logits.float()

    @torch.no_grad()
    def greedy(self, model: nn.Module, tokenizer: Any, examples: Sequence[Example]) -> list[list[int]]:
        """Each prompt's greedy answer with its end token, batched by length."""
        eos = tokenizer.eos_token_id
        limits = {"max_new_tokens": ANSWER_TOKENS, "eos_token_id": eos, "pad_token_id": eos}
        how = GenerationConfig(do_sample=False, **limits)  # type: ignore[no-untyped-call]
        answers: dict[int, list[int]] = {}
        order = sorted(range(len(examples)), key=lambda i: len(examples[i].prompt))
        decoder: Any = model
        for start in range(0, len(order), 64):
            chunk = order[start : start + 64]
            prompts = [examples[i].prompt for i in chunk]
            longest = max(map(len, prompts))
            ids = torch.tensor([[eos] * (longest - len(p)) + p for p in prompts])
            mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
            device = next(model.parameters()).device
            out = decoder.generate(ids.to(device), attention_mask=mask.to(device), generation_config=how)
            for i, tokens in zip(chunk, out[:, longest:].tolist(), strict=True):
                answers[i] = tokens[: tokens.index(eos) + 1] if eos in tokens else tokens
        return [answers[i] for i in range(len(examples))]
