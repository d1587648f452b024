"""Cross-references of a policy: `[SH-R1]`, `[SH-R1, VI-C2]` and `[do not lie](#do_not_lie)`.

For what people write in documents; what models cite in reasonings is read by `schemas.citations`.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

ANCHOR = r"[A-Za-z0-9][A-Za-z0-9_.:-]*"
"""What an anchor may look like."""

_LINK = re.compile(rf"\]\(#({ANCHOR})\)")
_BRACKET = re.compile(rf"(?<![\]\w!\\])\[({ANCHOR}(?:\s*[,;]\s*{ANCHOR})*)\](?![\[(])")
_CODE = re.compile(r"^[A-Z][A-Za-z]{0,9}[-_.]?[A-Za-z]{0,4}\d+(?:\.\d+)*[a-z]?$")
_FENCED = re.compile(r"^(`{3,}|~{3,}).*?^\1", re.MULTILINE | re.DOTALL)


def looks_like_anchor(token: str) -> bool:
    """Whether a bracketed word can only be a citation: `SH-R1`, `S12`, `do_not_lie`; not `sic` or `name`."""
    return _CODE.match(token) is not None or ("_" in token and token.islower())


def cited(text: str, known: Container[str] = ()) -> list[str]:
    """Anchors that a text cites, each once, in order of first appearance.

    A bracketed word counts when it is one of `known` or looks like an anchor: invented clauses are found and
    `[sic]` is not taken for one. Fenced code is not read.
    """
    found: list[tuple[int, str]] = []
    plain = _FENCED.sub(lambda match: " " * len(match.group()), text)
    found += [(match.start(), match.group(1)) for match in _LINK.finditer(plain)]
    for match in _BRACKET.finditer(plain):
        for token in re.split(r"\s*[,;]\s*", match.group(1)):
            if token in known or looks_like_anchor(token):
                found.append((match.start(), token))
    return list(dict.fromkeys(anchor for _, anchor in sorted(found, key=lambda pair: pair[0])))


def cited_in(texts: Iterable[str], known: Container[str] = ()) -> list[str]:
    """`cited` over several texts, each anchor once."""
    return list(dict.fromkeys(anchor for text in texts for anchor in cited(text, known)))
