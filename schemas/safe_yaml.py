"""YAML from anywhere: plain values only, and never more of them than a small document holds.

PyYAML's safe loader builds no objects, but a few hundred bytes of aliases unfold to gigabytes and a few thousand
brackets exhaust the stack. The event stream is counted before anything is built.
"""

from __future__ import annotations

from typing import Any

import yaml

MAX_CHARS = 1_000_000
MAX_DEPTH = 20
MAX_NODES = 20_000
_OPENS = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSES = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


def read_yaml(text: str, *, strings: bool = False, aliases: bool = False) -> Any:
    """The value of one small YAML document.

    Args:
        strings: every scalar as the text that stands there (`version: 1.10` stays "1.10"), else YAML's plain types.
        aliases: allow `*name`; the caller bounds what they unfold to.

    Raises:
        yaml.YAMLError: it is no YAML, or is larger or deeper than a small document.
    """
    loader = yaml.BaseLoader if strings else yaml.SafeLoader
    if len(text) > MAX_CHARS:
        raise yaml.YAMLError(f"it has {len(text)} characters; at most {MAX_CHARS} are read")
    try:
        bounded(text, aliases=aliases)
        return yaml.load(text, Loader=loader)  # noqa: S506
    except (ValueError, OverflowError, RecursionError, KeyError, TypeError, AttributeError) as exc:
        # Dates that do not exist, keys that cannot be keys, numbers of a thousand digits: PyYAML lets them out bare.
        raise yaml.YAMLError(f"a value cannot be read: {exc or type(exc).__name__}") from exc


def bounded(text: str, *, aliases: bool = False) -> None:
    """Refuse a document that is too deep, too large, or has aliases where none are expected.

    Raises:
        yaml.YAMLError: with what is wrong; where the text is no YAML too.
    """
    depth = 0
    for nodes, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if isinstance(event, _OPENS):
            depth += 1
        elif isinstance(event, _CLOSES):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent) and not aliases:
            raise yaml.YAMLError("it has aliases (*name); write the values out")
        if depth > MAX_DEPTH or nodes > 2 * MAX_NODES:
            raise yaml.YAMLError("it is nested too deeply or too large")
