"""From a conversation to the tokens a local model is given, by the model's own chat template."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from specdistill.builders.engines.exchange import THINK_CLOSE, THINK_OPEN, Messages


@dataclass(frozen=True)
class Rendered:
    """A conversation as the model gets it.

    Attributes:
        ids: token ids.
        thinking: the template ends with an opened `<think>`, so the model's text starts inside its thought.
    """

    ids: list[int]
    thinking: bool


class ChatRenderer:
    """Chat template and tokenizer of one model, usable from many threads.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._lock = threading.Lock()  # a fast tokenizer used twice at once raises "Already borrowed"
        self.special_thoughts = THINK_CLOSE in getattr(tokenizer, "all_special_tokens", ())
        """Thoughts are marked by special tokens, which decoding drops unless told otherwise."""

    def render(self, messages: Messages, template_kwargs: dict[str, Any] | None = None) -> Rendered:
        """Token ids of a conversation, up to where the assistant's turn begins.

        Raises:
            Exception: whatever the template raises for a conversation it does not take.
        """
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **(template_kwargs or {})
        )
        return Rendered(self._encode(text), text.rstrip().endswith(THINK_OPEN))

    def count(self, text: str | Messages) -> int:
        """Tokens of a text, or of a conversation as `render` gives it."""
        return len(self._encode(text)) if isinstance(text, str) else len(self.render(text).ids)

    def _encode(self, text: str) -> list[int]:
        with self._lock:
            ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids
