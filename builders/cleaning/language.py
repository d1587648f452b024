"""Which language a text is in, where that is clear: py3langid, whose model ships in the package."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import polars as pl

from specdistill.builders.cleaning.near import BATCH, Progress, quiet

CONFIDENT = 0.5
"""Least probability of a language that is taken as one; short texts ("help me") stay below it."""
MOST_CHARS = 1_000
NO_LANGUAGE = "zxx"


@lru_cache(maxsize=1)
def identifier() -> Any:
    """The identifier with its bundled model; half a second."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def languages(texts: pl.Series, progress: Progress = quiet) -> pl.Series:
    """ISO 639 code of each text; null where no language has a probability of `CONFIDENT` or the text is no prose."""
    found: list[str | None] = []
    for start in range(0, len(texts), BATCH):
        for text in texts.slice(start, BATCH).to_list():
            code, probability = identifier().classify(text[:MOST_CHARS])
            found.append(code if probability >= CONFIDENT and code != NO_LANGUAGE else None)
        progress(len(found), len(texts))
    return pl.Series("language", found, dtype=pl.String)
