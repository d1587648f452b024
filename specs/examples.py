"""Worked examples, one a list item: `- [SH-R1] refuse: "the prompt" — why`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from specdistill.specs.findings import Finding
from specdistill.specs.model import Example
from specdistill.specs.passage import passage
from specdistill.specs.references import ANCHOR
from specdistill.specs.words import outcome_named

_ITEM = re.compile(r"^\s{0,3}[-*+]\s+(?P<rest>.*)$")
_HEAD = rf"^\[(?P<anchor>{ANCHOR})\](?:\(#[^)]*\))?\s*(?:→|->)?\s*(?P<outcome>[\w -]+?)\s*:\s*"
_REASONED = re.compile(_HEAD + r"[\"“](?P<prompt>.*)[\"”]\s+(?:—|–|--|-)\s+(?P<why>.*)$", re.DOTALL)
_BARE = re.compile(_HEAD + r"[\"“](?P<prompt>.*)[\"”](?P<why>)$", re.DOTALL)


def _goes_on(text: str) -> bool:
    """Whether a line continues the item above it."""
    return re.match(r"^\s+\S", text) is not None and _ITEM.match(text) is None


def read_examples(lines: Sequence[tuple[int, str]], file: str) -> tuple[tuple[Example, ...], str, list[Finding]]:
    """(examples, the text that is none, faults) of a section's lines, given as (0-based number, text).

    An item may go on over indented lines. The prompt reaches to the last quotation mark that a dash follows.
    """
    examples: list[Example] = []
    rest: list[str] = []
    findings: list[Finding] = []
    number = 0
    while number < len(lines):
        line, text = lines[number]
        number += 1
        item = _ITEM.match(text)
        if item is None:
            rest.append(text)
            continue
        whole = [text]
        parts = [item["rest"].strip()]
        while number < len(lines) and re.match(r"^\s+\S", lines[number][1]) and not _ITEM.match(lines[number][1]):
            whole.append(lines[number][1])
            parts.append(lines[number][1].strip())
            number += 1
        whole_text = " ".join(parts)
        match = _REASONED.match(whole_text) or _BARE.match(whole_text)
        outcome = outcome_named(match["outcome"]) if match else None
        if match is None or outcome is None:
            findings.append(
                Finding(
                    file,
                    line + 1,
                    "unread-example",
                    'An example is written: - [ANCHOR] refuse: "prompt" — why.',
                    "warning",
                )
            )
            rest += whole
            continue
        examples.append(
            Example(
                anchor=match["anchor"],
                outcome=outcome,
                prompt=match["prompt"].strip(),
                why=(match["why"] or "").strip(),
                file=file,
                line=line + 1,
            )
        )
    return tuple(examples), passage("\n".join(rest)), findings
