"""Rendering Markdown from templates: sandboxed, and every value that comes from data is escaped.

Prompts, categories, model names and the spec's title are somebody else's text. Whatever a template prints with `{{ }}`
is escaped for Markdown and HTML unless it went through one of our own formatting filters, which return `Safe`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

TEMPLATES = "templates"


class Safe(str):
    """Text that is already Markdown."""

    __slots__ = ()


_SPECIAL = re.compile(r"[\\`*_{}\[\]<>()#!|~$&@]|(?<=:)/(?=/)|^[+=:-]|(?<=^\d)[.)](?=\s|$)|(?<=^\d\d)[.)](?=\s|$)")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "|": "&#124;", "/": "&#47;", "@": "&#64;"}


def escape(text: str) -> Safe:
    """Text that Markdown, GitHub's tables and HTML show as it is, on one line.

    Control characters and the marks that turn writing direction around are dropped: they can hide text from a reader.
    """
    kept = "".join(
        char if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co") else " " if char.isspace() else ""
        for char in text
    )
    line = " ".join(kept.split())
    return Safe(_SPECIAL.sub(lambda match: _ENTITIES.get(match.group(), "\\" + match.group()), line))


def shown(value: Any) -> str:
    """What `{{ value }}` prints."""
    if isinstance(value, Safe):
        return str(value)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}"
    return escape(str(value))


def code(text: Any) -> Safe:
    """Text as inline code; a fence longer than any run of backticks in it."""
    line = "".join(char for char in str(text) if unicodedata.category(char) not in ("Cc", "Cf", "Cs"))
    line = line.replace("|", "\\|")
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    return Safe(f"{fence} {line} {fence}" if longest else f"{fence}{line}{fence}")


def percent(value: float | None, places: int = 1) -> Safe:
    """A share as per cent."""
    return Safe("–" if value is None else f"{100 * value:.{places}f} %")


def interval(cell: dict[str, Any]) -> Safe:
    """A share with its interval: `42.0 % (30.0–51.0)`."""
    if cell.get("share") is None:
        return Safe("–")
    return Safe(f"{100 * cell['share']:.1f} % ({100 * cell['low']:.1f}–{100 * cell['high']:.1f})")


def spread(cell: dict[str, Any]) -> Safe:
    """A standard deviation with its interval: `0.081 (0.072–0.090)`."""
    if cell.get("sd") is None:
        return Safe("–")
    if cell.get("low") is None:
        return Safe(f"{cell['sd']:.3f}")
    return Safe(f"{cell['sd']:.3f} ({cell['low']:.3f}–{cell['high']:.3f})")


def decimals(value: float | None, places: int = 2) -> Safe:
    """A number with fixed places."""
    return Safe("–" if value is None else f"{value:,.{places}f}")


def signed(value: float | None, places: int = 3) -> Safe:
    """A difference with its sign."""
    return Safe("–" if value is None else f"{value:+.{places}f}")


def duration(seconds: float | None) -> Safe:
    """Seconds as `1 h 02 min`, `3 min 05 s` or `12 s`."""
    if seconds is None:
        return Safe("–")
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return Safe(f"{hours:,} h {minutes:02d} min")
    return Safe(f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s")


def size(count: int) -> Safe:
    """Bytes as `1.2 MB` (10^6)."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return Safe(f"{value:.0f} B" if units[0] == "B" else f"{value:.1f} {units[0]}")


def render(template: str, **values: Any) -> str:
    """A template of `cards/templates` with these values.

    A name the template uses and nobody gave is an error, not an empty string.
    """
    from jinja2 import PackageLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        loader=PackageLoader("specdistill.cards", TEMPLATES),
        undefined=StrictUndefined,
        finalize=shown,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "code": code,
        "percent": percent,
        "interval": interval,
        "spread": spread,
        "signed": signed,
        "decimals": decimals,
        "duration": duration,
        "size": size,
    }
    text = environment.get_template(template).render(**values)
    return re.sub(r"\n{3,}", "\n\n", text)
