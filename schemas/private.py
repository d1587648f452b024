"""Secrets and personal data in one text.

Secrets: Kingfisher (MongoDB), its bundled rules, offline. Personal data: DataFog's pattern engine (e-mail, phone,
social security and card numbers, IP addresses). What is found is shown masked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from specdistill.errors import MissingExtra

PERSONAL = ("EMAIL", "PHONE", "SSN", "CREDIT_CARD", "IP_ADDRESS")
MAYBE_PERSONAL = r"@|\d[\d\s().+-]{6,}\d|\d+\.\d+\.\d+"
"""Personal data of these kinds has an @ or enough digits; other texts need not be looked at."""
MAYBE_SECRET = (
    r"[A-Za-z0-9_+/=-]*[0-9][A-Za-z0-9_+/=-]{14,}|[A-Za-z0-9_+/=-]{14,}[0-9]"
    r"|-----BEGIN|://[^/\s]+:[^@\s]+@|(?i:password|passwd|secret|token|api.?key)\s*[:=]"
)
"""A secret has a long run of letters and digits, or says what it is; other texts need not be looked at."""
NOBODY = re.compile(
    r"(?i)@(?:[\w-]+\.)*(?:example\.(?:com|org|net)|[\w-]+\.(?:example|test|invalid))$|^(?:127\.|0\.0\.0\.0|192\.0\.2\.)"
    r"|555[\s().-]*01\d\d$"
)
"""Addresses and numbers that are reserved for examples."""


def scanners() -> tuple[Any, Any]:
    """(Kingfisher's scanner, DataFog's function).

    Raises:
        MissingExtra: they are not installed.
    """
    os.environ["DATAFOG_NO_TELEMETRY"] = "1"
    try:
        from datafog import scan as scan_personal

        return secret_scanner(), scan_personal
    except ImportError as exc:
        raise MissingExtra("The scan for secrets and personal data", "scan") from exc


@lru_cache(maxsize=1)
def secret_scanner() -> Any:
    """Kingfisher with its bundled rules; compiling them takes a second or more."""
    import kingfisher_sdk

    return kingfisher_sdk.Scanner()


def secrets_in(text: str) -> Iterator[tuple[str, str]]:
    """(rule, masked words) of every secret."""
    for hit in scanners()[0].scan(text):
        if hit.visible:
            yield str(hit.rule_name), masked(str(hit.secret))


def personal_in(text: str) -> Iterator[tuple[str, str]]:
    """(kind, masked words) of personal data; addresses that are reserved for examples are nobody's."""
    for entity in scanners()[1](text, entity_types=list(PERSONAL)).entities:
        if not NOBODY.search(entity.text) and not longer_number(text, entity):
            yield str(entity.type), masked(entity.text)


def longer_number(text: str, entity: Any) -> bool:
    """Whether what looks like an IP address is four numbers of a longer row of them (a version, a section, noise)."""
    if entity.type != "IP_ADDRESS":
        return False
    before, after = text[max(0, entity.start - 2) : entity.start], text[entity.end : entity.end + 2]
    return bool(re.search(r"\d\.?$", before) or re.match(r"\.?\d", after))


def masked(text: str) -> str:
    """Enough of a find to recognise it, not enough to use it."""
    line = " ".join(text.split())
    return f"{line[:3]}…{line[-2:]}" if len(line) > 8 else f"{line[:1]}…"
