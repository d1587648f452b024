"""Which prompts seem to hold secrets or personal data."""

from __future__ import annotations

import polars as pl

from specdistill.builders.cleaning.near import BATCH, Progress, quiet
from specdistill.schemas.private import MAYBE_PERSONAL, MAYBE_SECRET, personal_in, secrets_in


def private_flags(texts: pl.Series, progress: Progress = quiet) -> pl.Series:
    """Kinds of finds of each text: `secret: RULE`, `personal: KIND`; an empty list where there are none.

    Only texts that could hold some by a cheap look are scanned.
    """
    secret, personal = texts.str.contains(MAYBE_SECRET), texts.str.contains(MAYBE_PERSONAL)
    found: list[list[str]] = [[] for _ in range(len(texts))]
    looked = (secret | personal).arg_true().to_list()
    for number, row in enumerate(looked, start=1):
        text = texts[row]
        kinds = {f"secret: {rule}" for rule, _ in secrets_in(text)} if secret[row] else set()
        kinds |= {f"personal: {kind}" for kind, _ in personal_in(text)} if personal[row] else set()
        found[row] = sorted(kinds)
        if number % BATCH == 0 or number == len(looked):
            progress(number, len(looked))
    return pl.Series("flags", found, dtype=pl.List(pl.String))
