"""Texts in the form they are compared in."""

from __future__ import annotations

import polars as pl

CONTENTS = pl.element().struct.field("content")
ROLED = pl.concat_str(pl.element().struct.field("role"), pl.element().struct.field("content"), separator=" ")


def whole_text(column: str = "prompt") -> pl.Expr:
    """All turns of a conversation, one under the other."""
    return pl.col(column).list.eval(CONTENTS).list.join("\n")


def user_text(column: str = "prompt") -> pl.Expr:
    """What the user wrote, all turns: what language and meaning are read from."""
    users = pl.element().filter(pl.element().struct.field("role") == "user").struct.field("content")
    return pl.col(column).list.eval(users).list.join("\n")


def normal(text: pl.Expr) -> pl.Expr:
    """Compatibility form, lower case, punctuation and white space as one space, no invisible characters.

    Signs that carry meaning stay (`C++` is not `C`, `a < b` not `a > b`); a text of punctuation only stays as it is.
    """
    folded = text.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\p{Cf}", "")
    plain = folded.str.replace_all(r"""[\s.,;:!?"'’‘“”„«»()\[\]{}…—–_`]+""", " ").str.strip_chars(" ")
    return pl.when(plain == "").then(folded.str.strip_chars()).otherwise(plain)
