"""Decoders that answer in a chat, such as Qwen2.5-Instruct: Qwen2, Llama, Gemma and others."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from remerge.errors import UserError, cause_of
from remerge.families.causal_lm import CausalLM

TODAY = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"
"""The day that templates are told, as results must not depend on today's; Llama's assume it themselves."""

MARK = "remerge"
"""An answer by which a template's words around answers are found."""


class Chat(CausalLM):
    """The prompt is a user's turn in the tokenizer's chat template, the answer is the assistant's."""

    reads = "text"
    speaks = True

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        if self.processor.chat_template is None:
            raise UserError(
                f"{base}: no chat template in its tokenizer: save the experts' chat_template.jinja there, "
                "or set base.family to causal_lm"
            )
        asked = self._rendered(MARK)
        before, _, after = self._rendered(MARK, MARK).rpartition(MARK)
        self._lead = before.removeprefix(asked) if before.startswith(asked) else ""
        marks = self.processor.added_tokens_decoder
        # Templates end a turn with a token that the tokenizer itself need not know as its end token (Gemma).
        ends = [token for token in self._tokens([after])[0] if token in marks]
        self._end = ends[0] if ends else super().eos

    @property
    def eos(self) -> int:
        """The token that ends the assistant's turn."""
        return self._end

    def tokens(self, prompts: Sequence[str]) -> list[list[int]]:
        """The tokens up to the assistant's first."""
        return self._tokens([self._rendered(prompt) for prompt in prompts])

    def continued(self, pairs: Sequence[tuple[Any, Any]]) -> list[list[int]]:
        """The tokens up to the assistant's last, without that which ends its turn."""
        return self._tokens([self._rendered(prompt) + self._lead + answer for prompt, answer in pairs])

    def fitted(self, prompt: list[int], room: int) -> list[int]:
        """The prompt.

        Raises:
            UserError: it is too long; cut, it would not be the template's any more.
        """
        if len(prompt) > room:
            raise UserError(
                f"a prompt has {len(prompt)} tokens in the chat template, and the model reads {room} beside "
                "the answer: shorten prompt, or leave out such examples"
            )
        return prompt

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of rendered texts, which have all the marks that a conversation begins with."""
        found: list[list[int]] = self.processor(
            list(texts), add_special_tokens=False, verbose=False
        ).input_ids
        return found

    def _rendered(self, prompt: str, *answer: str) -> str:
        """A conversation in the template, open for the assistant's turn if there is no answer.

        Raises:
            UserError: the template refuses it.
        """
        turns = [{"role": "user", "content": prompt}]
        turns += [{"role": "assistant", "content": text} for text in answer]
        try:
            rendered: str = self.processor.apply_chat_template(
                turns,
                chat_template=TODAY + self.processor.get_chat_template(),
                tokenize=False,
                add_generation_prompt=not answer,
                enable_thinking=False,
            )
        except Exception as error:  # a template raises what it likes
            where = self.processor.name_or_path
            raise UserError(
                f"{where}: its chat template fails ({cause_of(error)}): correct it, or set base.family to "
                "causal_lm"
            ) from None
        return rendered
