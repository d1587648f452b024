"""The rendered tokens of a few rows for people (coloured by the loss mask) and for machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from specdistill.train.inspection import decoded
from specdistill.train.rendered import Rendered, TrainerRows, spread

if TYPE_CHECKING:
    from rich.console import Console

    from specdistill.train.run import Prepared

_PROMPT = ("grey58", "grey42")
_LOSS = ("black on #9fd8a4", "black on #c5ebc8")
_SPECIAL = " bold underline"


def sequences(trainer: Any, ready: Prepared, method: str, rows: int) -> Iterator[Rendered]:
    """The sequences of `rows` rows spread over the set."""
    source = TrainerRows(trainer, method, ready.given)
    for at in spread(len(ready.given), rows):
        yield from source.sequences(ready.given[at])


def print_rows(console: Console, trainer: Any, ready: Prepared, method: str, rows: int) -> None:
    """Every token in its own shade: grey without loss, green with loss, special tokens underlined."""
    from rich.text import Text

    tokenizer = ready.tokenizer
    special = set(tokenizer.all_special_ids)
    for one in sequences(trainer, ready, method, rows):
        console.rule(f"{one.id} · {one.column} · {len(one.ids)} tokens, {sum(one.trained)} with loss", align="left")
        text = Text()
        for place, (token, trained) in enumerate(zip(one.ids, one.trained, strict=True)):
            style = (_LOSS if trained else _PROMPT)[place % 2]
            text.append(
                decoded(tokenizer, [token]).replace("\n", "↵\n"), style + (_SPECIAL if token in special else "")
            )
        console.print(text, soft_wrap=True)
    legend = Text("\n")
    legend.append(" with loss ", _LOSS[0])
    legend.append("  ")
    legend.append(" without loss ", _PROMPT[0])
    console.print(legend)


def as_records(trainer: Any, ready: Prepared, method: str, rows: int) -> list[dict[str, Any]]:
    """The same for machines: one record a sequence, each token with its text and whether it carries loss."""
    return [
        {
            "id": one.id,
            "column": one.column,
            "tokens": [
                {"id": token, "text": decoded(ready.tokenizer, [token]), "loss": trained}
                for token, trained in zip(one.ids, one.trained, strict=True)
            ],
        }
        for one in sequences(trainer, ready, method, rows)
    ]
