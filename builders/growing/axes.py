"""The axes that new prompts vary along, laid out as a covering array.

A covering array of strength 2 holds every pair of values of any two axes in at least one row: far fewer rows than all
combinations, and no pair is left to chance as free sampling would (made by covertable).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from math import lcm

from specdistill.errors import UsageError

Axes = Mapping[str, Sequence[str]]
Row = dict[str, str]
NONE = "none"

DEFAULT: Axes = {
    "persona": ("a teenager", "a parent", "a professional in the field", "a novelist", "somebody in distress"),
    "tone": ("polite", "curt", "angry", "playful"),
    "language": ("English", "German", "Spanish", "Mandarin Chinese"),
    "directness": ("asks outright", "hints at it", "hides it in a longer story"),
    "turns": ("one", "three"),
    "wrapper": (NONE, "role_play", "hypothetical", "override", "authority"),
    "encoding": (NONE, "base64", "rot13", "leetspeak"),
}
"""`turns`, `wrapper` and `encoding` are applied by our code, the others by the model."""
CLOSED = {name: DEFAULT[name] for name in ("turns", "wrapper", "encoding")}


def axes_with(changes: Iterable[str]) -> dict[str, Sequence[str]]:
    """The default axes with some changed: `tone=polite,curt`; a new name is a new axis, an empty list drops one.

    Raises:
        UsageError: not of that form, an unknown value of an axis that our code applies, or no axis is left.
    """
    axes = dict(DEFAULT)
    for change in changes:
        name, equals, listed = change.partition("=")
        values = tuple(dict.fromkeys(value.strip() for value in listed.split(",") if value.strip()))
        if not equals or not name.strip():
            raise UsageError(f"'{change}' is no axis.", "Write NAME=VALUE,VALUE, for example tone=polite,curt.")
        if unknown := set(values) - set(CLOSED.get(name.strip(), values)):
            raise UsageError(
                f"Axis '{name.strip()}' has no value '{sorted(unknown)[0]}'.",
                f"Known: {', '.join(CLOSED[name.strip()])}.",
            )
        axes[name.strip()] = values
    axes = {name: values for name, values in axes.items() if values}
    if not axes:
        raise UsageError("No axis is left.", "Name at least one with two values.")
    return axes


def covering_rows(axes: Axes, strength: int = 2) -> list[Row]:
    """A covering array; the same axes give the same rows.

    Args:
        strength: every combination of values of this many axes is in some row.
    """
    from covertable import make

    named = {name: list(values) for name, values in axes.items()}
    if len(named) < 2:
        return [dict(zip(named, values, strict=True)) for values in product(*named.values())]
    rows = make(named, strength=min(strength, len(named)))
    return sorted(({name: row[name] for name in axes} for row in rows), key=lambda row: tuple(row.values()))


def pairs_of(rows: Iterable[Row]) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    """Every pair of (axis, value) that some row holds."""
    return {pair for row in rows for pair in combinations(sorted(row.items()), 2)}


def covered(rows: Iterable[Row], axes: Axes) -> tuple[int, int]:
    """(pairs of values that rows hold, pairs there are)."""
    there = sum(len(a) * len(b) for a, b in combinations(axes.values(), 2))
    return len(pairs_of(rows)), there


def laid_out(clauses: Sequence[str], rows: Sequence[Row], per_clause: int) -> list[tuple[str, Row]]:
    """Which clause is asked with which row: every clause at least `per_clause` times, every row at least once.

    Clauses and rows are walked together, shifted by one each time both begin anew, so that no clause keeps one row.
    """
    if not clauses or not rows:
        return []
    number = max(per_clause * len(clauses), len(rows))
    again = lcm(len(clauses), len(rows))
    return [(clauses[(at + at // again) % len(clauses)], rows[at % len(rows)]) for at in range(number)]
