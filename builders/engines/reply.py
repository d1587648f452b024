"""Reading what an OpenAI-compatible server sends: trusted in nothing, not even in being JSON."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson

from specdistill.builders.engines.exchange import Completion, Request, one_line
from specdistill.builders.engines.retrying import PassingFault
from specdistill.schemas.vocabulary import FinishReason

_FINISH = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
}
"""Servers' finish reasons. Any other (`content_filter`, `abort`, none at all) leaves no text that can be
relied on."""

_LONGEST_ERROR = 300


def longest_reply(tokens: int) -> int:
    """Bytes that a reply of so many tokens can take at most: 512 a token (the longest tokens of whitespace,
    each character escaped) and 2 MiB of anything else. What is larger is not an answer to what was asked."""
    return 2 * 2**20 + 512 * tokens


def completions(body: bytes, request: Request) -> list[Completion]:
    """The completions in the body of a 200 answer, in the server's order; never more than were asked for.

    `completion_tokens` of several samples is the server's total, shared out by length of text: servers do not
    count the samples singly.

    Raises:
        PassingFault: the body is not what the protocol says; servers under load do that, and then recover.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise PassingFault(f"the answer is not JSON: {exc}, after {len(body)} bytes") from exc
    if not isinstance(found, dict):
        raise PassingFault("the answer is not a JSON object")
    if found.get("error"):
        raise PassingFault(f"an error in an answer with status 200: {error_text(body)}")
    choices = found.get("choices")
    if not isinstance(choices, list) or not choices:
        raise PassingFault("the answer has no choices")
    texts = [_texts(choice) for choice in choices[: request.samples]]
    usage = found.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    prompt = _count(usage.get("prompt_tokens"))
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    shares = _shares(
        _count(usage.get("completion_tokens")),
        [len(text) + len(thought or "") for text, thought, *_ in texts],
    )
    return [
        Completion(text, thought, finish, prompt, share, cached, error)
        for (text, thought, finish, error), share in zip(texts, shares, strict=True)
    ]


def _texts(choice: Any) -> tuple[str, str | None, FinishReason, str | None]:
    """Text, reasoning, finish reason and error of one choice."""
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return "", None, FinishReason.ERROR, "the choice has no message"
    text = message.get("content")
    if text is None:
        text = message.get("refusal") or ""
    reasoning = message.get("reasoning")
    if reasoning is None:
        reasoning = message.get("reasoning_content")
    if not isinstance(text, str) or not isinstance(reasoning, str | None):
        return "", None, FinishReason.ERROR, "the message is not text"
    given = choice.get("finish_reason")
    finish = _FINISH.get(given, FinishReason.ERROR) if isinstance(given, str) else FinishReason.ERROR
    error = None
    if finish is FinishReason.ERROR:
        error = f"the server ended the answer with {given!r}"[:_LONGEST_ERROR]
    return text, reasoning or None, finish, error


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**31 else None


def _shares(total: int | None, lengths: list[int]) -> list[int | None]:
    """A total shared out in proportion to lengths; the shares add up to it."""
    if total is None:
        return [None] * len(lengths)
    weights = lengths if sum(lengths) else [1] * len(lengths)
    bounds = [round(total * sum(weights[:end]) / sum(weights)) for end in range(len(weights) + 1)]
    return [upper - lower for lower, upper in pairwise(bounds)]


def error_text(body: bytes) -> str:
    """What a server says went wrong, on one printable line of at most 300 characters."""
    text = ""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body[:2000].decode("utf-8", "replace")
    else:
        for _ in range(3):  # {"error": {"message": …}}, {"message": …}, {"detail": …}, {"error": "…"}
            if isinstance(found, dict):
                found = next((found[name] for name in ("error", "message", "detail") if found.get(name)), "")
        text = found if isinstance(found, str) else orjson.dumps(found).decode()
    return one_line(text) or "no reason given"
