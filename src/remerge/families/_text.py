"""Common parts of the families that read text: the tokenizer, prompts and answers."""

import math
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from remerge.checkpoints.architecture import AS_DATA
from remerge.checkpoints.models import load_whole
from remerge.errors import UserError, cause_of
from remerge.families import Batch, Example, Head
from remerge.measures.words import said_exactly
from remerge.passes import instead

TOKENIZERS = (
    "tokenizer.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
)
"""The files from which tokenizers are loaded; each tokenizer has at least one of them."""


MARKS = ("bos_token", "cls_token", "eos_token", "pad_token", "sep_token")
"""The tokens that are put around texts."""


BEHIND_PADDING = (
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)
"""The architectures that number positions from the padding token's number plus 1."""

ODD = (
    *("cpmant", "fsmt", "git", "moshi", "nemotron_h", "prophetnet", "reformer", "rwkv", "xlm", "xlnet"),
    *("xlstm", "zamba2", *BEHIND_PADDING),
)
"""The architectures that in transformers decode other words than they find likely when these are fed in, or
decode none, or have no output head that makes a word of each state."""

UNLIMITED = (0, math.inf)
"""The limits of a state space model's time steps with which it decodes as it reads."""


class Text:
    """A family that reads tokens."""

    auto: Any
    """The transformers class that loads its models."""

    def __init__(self, base: Path) -> None:
        try:
            self.config = AutoConfig.from_pretrained(base, **AS_DATA)
        except Exception as error:  # each configuration refuses its values in its own way
            raise UserError(
                f"{base}: transformers does not know its architecture or refuses its config.json "
                f"({cause_of(error)}): correct it, or give another model"
            ) from None
        self.processor = tokenizer_of(base)
        rows = getattr(self.config.get_text_config(), "vocab_size", sys.maxsize)
        for name in MARKS:
            mark, number = (getattr(self.processor, key) for key in (name, f"{name}_id"))
            if number is not None and number >= rows:
                raise UserError(
                    f"{base}: {name} {mark!r} is number {number}, and the model has {rows} tokens: "
                    "set another one in tokenizer_config.json, or resize the model's embeddings"
                )
        if getattr(self.config, "attention_type", None) == "block_sparse":
            # BigBird draws the blocks by the width of a batch, and sees everything after one short batch.
            raise UserError(
                f"{base}/config.json: attention_type block_sparse reads a text by the others of its batch, "
                "so that scores would depend on them: set original_full, in the experts too"
            )
        if positions := getattr(self.config, "max_position_embeddings", None):
            if self.config.model_type in BEHIND_PADDING:
                positions -= self.config.pad_token_id + 1
            self.processor.model_max_length = min(self.processor.model_max_length, positions)

    def must_speak_plainly(self, base: Path) -> None:
        """Refuse an architecture whose answers cannot be judged by feeding them in (`ODD`)."""
        if self.config.model_type in ODD:
            raise UserError(
                f"{base}/config.json: {self.config.model_type} decodes otherwise than it judges words that "
                "are fed in: give another architecture"
            )
        # Decoding by single tokens leaves the limits out.
        limit = getattr(self.config.get_text_config(), "time_step_limit", None) or UNLIMITED
        if tuple(limit) != UNLIMITED:
            raise UserError(
                f"{base}/config.json: with a time_step_limit, {self.config.model_type} decodes otherwise "
                "than it judges words that are fed in: give another model"
            )

    def start_of_decoder(self, base: Path) -> int:
        """The token that an encoder-decoder's decoder begins with.

        Raises:
            UserError: the configuration names none.
        """
        start = getattr(self.config, "decoder_start_token_id", None)
        if start is None and "decoder" in self.config.sub_configs:  # as in T5Gemma
            start = self.config.decoder.bos_token_id
        if start is None:
            raise UserError(
                f"{base}/config.json: no decoder_start_token_id: set the token that its decoder begins with"
            )
        return int(start)

    @property
    def eos(self) -> int:
        """The end token.

        Raises:
            UserError: the tokenizer has none.
        """
        if self.processor.eos_token_id is None:
            raise UserError(f"{self.processor.name_or_path}: the tokenizer has no end token: set eos_token")
        return int(self.processor.eos_token_id)

    @property
    def fill(self) -> int:
        """The token that pads a row: the padding token, or the end token if the tokenizer has none."""
        given = self.processor.pad_token_id
        return self.eos if given is None else int(given)

    @property
    def limit(self) -> int:
        """The most tokens of an input, a huge number if there is no limit."""
        return int(self.processor.model_max_length)

    @property
    def limited(self) -> bool:
        """Whether the length of inputs is limited."""
        return self.limit < 1_000_000

    def load(self, folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
        """The model of a folder, in evaluation mode.

        Raises:
            UserError: the folder's weights are missing, damaged or from another architecture.
        """
        model: Any = load_whole(self.auto, folder, dtype).to(device)
        head = model.get_output_embeddings()
        plain = type(head) is nn.Linear
        if plain and head.weight.dtype.itemsize == 2:
            head.forward = partial(said_exactly, weight=head.weight, bias=head.bias)
        whole: nn.Module = model
        return whole

    def added(self, folder: Path) -> list[str]:
        """The tokens that a checkpoint's own tokenizer has beyond the base's; none if it has no tokenizer.

        Raises:
            UserError: the base's tokens have different ids there.
        """
        if not any((folder / name).is_file() for name in TOKENIZERS):
            return []
        base, own = self.processor.get_vocab(), tokenizer_of(folder, self.config).get_vocab()
        moved = [token for token in sorted(base) if own.get(token) != base[token]]
        if moved:
            raise UserError(
                f"{folder}: a tokenizer that differs from the base's: {moved[0]!r} is number "
                f"{own.get(moved[0], 'none')} there, {base[moved[0]]} in the base: "
                "give an expert of this base"
            )
        return sorted(own.keys() - base.keys(), key=lambda token: int(own[token]))

    def equip(self, model: nn.Module, heads: Mapping[str, Head]) -> None:
        """Do nothing: one head serves all tasks."""

    def heads(self, model: nn.Module) -> list[str]:
        """An empty list: tasks have no heads of their own."""
        return []

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the model and its tokenizer."""
        whole: Any = model
        whole.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def labels(self, prompt: str, answers: Sequence[str]) -> list[int] | None:
        """The first token of each possible answer, or None if two answers share it."""
        first = [example.answer[0] for example in self.examples("", [(prompt, a) for a in answers])]
        return first if len(set(first)) == len(first) else None

    def tokens(self, prompts: Sequence[str]) -> list[list[int]]:
        """The prompts' tokens, not truncated."""
        found: list[list[int]] = self.processor(list(prompts), verbose=False).input_ids
        return found

    def cut(self, prompts: Sequence[str]) -> list[list[int]]:
        """The prompts' tokens; one that is too long loses its end.

        Raises:
            UserError: a prompt has no token.
        """
        found: list[list[int]] = self.processor(list(prompts), truncation=self.limited).input_ids
        if not all(found):
            empty = prompts[found.index([])]
            raise UserError(f"prompt {empty!r}: no token for the model to read: write words into the prompt")
        return found

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """The number of tokens of each prompt."""
        return list(map(len, self.tokens(prompts)))

    def examples(self, task: str, pairs: Sequence[tuple[Any, Any]]) -> list[Example]:
        """Prompts and answers as tokens."""
        raise NotImplementedError

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """The model's logits, float32 ``[N, V]``, computed at the judged positions only."""
        whole: Any = model

        def judged(decoder: nn.Module, given: object, output: Any) -> Any:
            output.last_hidden_state = output.last_hidden_state[batch.positions].unsqueeze(0)
            return output

        hook = _decoder(whole).register_forward_hook(judged)
        try:
            logits: Tensor = whole(**batch.inputs, use_cache=False).logits
        finally:
            hook.remove()
        return logits.squeeze(0).float()

    def states(self, model: nn.Module, batch: Batch) -> Tensor:
        """The inputs of the output head at the judged positions, ``[N, h]``, in the model's own dtype."""
        whole: Any = model
        read: list[Tensor] = []
        head: nn.Module = whole.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda head, given: read.append(given[0]))
        try:
            self.logits(model, batch)
        finally:
            hook.remove()
        return read[0].squeeze(0)

    def said(self, model: nn.Module, made: Tensor) -> Tensor:
        """The model's logits, given the output of its own head or another model's, float32 ``[N, V]``.

        It goes through the model's own forward pass, in which the decoder and the head compute nothing.
        """
        whole: Any = model
        # As wide as the decoder's states: encoders trained as decoders transform them before the head.
        width = whole.config.get_text_config(decoder=True).hidden_size
        empty = made.new_zeros(1, len(made), width, dtype=next(model.parameters()).dtype)
        tokens = torch.zeros(1, len(made), dtype=torch.long, device=made.device)
        states = _States(last_hidden_state=empty)
        inputs: dict[str, Any] = {"input_ids": tokens}
        if whole.config.is_encoder_decoder:
            inputs = {"encoder_outputs": states, "decoder_input_ids": tokens}
        words = made.unsqueeze(0)
        with (
            instead(_decoder(whole), lambda *given, **named: states),
            instead(whole.get_output_embeddings(), lambda *given: words),
        ):
            logits: Tensor = whole.forward(**inputs, use_cache=False).logits
        return logits.squeeze(0).float()


class _States(BaseModelOutputWithPastAndCrossAttentions):
    """A decoder's states; whatever else its own output has, such as a mixture's routers, is None."""

    def __getattr__(self, name: str) -> None:
        return None


def _decoder(model: Any) -> nn.Module:
    """The module whose output becomes words."""
    found: Any = model.get_decoder()
    if found in (model, model.get_output_embeddings()):
        # ModernBERT gives this name to its output head, and Llama 4 looks for its decoder under another.
        found = next(child for child in model.children() if isinstance(child, PreTrainedModel))
    # A BERT that is the decoder of another model has an output head inside.
    head = getattr(found, "get_output_embeddings", lambda: None)()
    decoder: nn.Module = found if head is None else _decoder(found)
    return decoder


def tokenizer_of(folder: Path, config: Any = None) -> Any:
    """A folder's tokenizer.

    Args:
        folder: the folder of a model or adapter.
        config: the configuration of an adapter's base. By their architecture, transformers reads the same
            files as tokenizers of several classes, which may have other tokens; an adapter names none.

    Raises:
        UserError: it has none that can be read.
    """
    known = {} if (folder / "config.json").is_file() else {"config": config}
    try:
        return AutoTokenizer.from_pretrained(folder, **known, **AS_DATA)
    except Exception as error:  # the tokenizers library raises no narrower exception
        raise UserError(f"{folder}: no tokenizer ({cause_of(error)}): save it beside the model") from None
