"""Counting tokens, and saying by which counter: a count means nothing without the tokenizer's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from specdistill.errors import SpecError


@dataclass(frozen=True)
class Counter:
    """A way to count tokens.

    Attributes:
        name: what it is, for people.
        count: text to number of tokens, special tokens not included.
        exact: whether it is a tokenizer; False for the estimate.
    """

    name: str
    count: Callable[[str], int]
    exact: bool = True


def estimate(text: str) -> int:
    """About how many tokens a text has: one for every four bytes of UTF-8, rounded up."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 4)


ESTIMATE = Counter("an estimate of 4 bytes a token", estimate, exact=False)


def tokenizer_counter(source: str | Path, name: str | None = None) -> Counter:
    """Counts with a `tokenizer.json`: that file, a model folder that holds one, or a hub id.

    Args:
        name: what to call it; default is the source itself.

    Raises:
        SpecError: there is no tokenizer.
    """
    from tokenizers import Tokenizer

    path = Path(source)
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        tokenizer = Tokenizer.from_file(str(file)) if file.is_file() else _from_hub(str(source))
    except Exception as exc:  # tokenizers raises bare Exception
        raise SpecError(
            f"The tokenizer '{source}' cannot be loaded: {exc}",
            "Name a tokenizer.json, a model folder that holds one, or a hub id.",
        ) from exc
    return Counter(name or str(source), lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids))


def _from_hub(source: str):  # type: ignore[no-untyped-def]  # a tokenizers.Tokenizer, which is untyped
    from tokenizers import Tokenizer

    return Tokenizer.from_pretrained(source)
