"""Talking to an Argilla server: any of them, ours or another. Its errors become ours where they enter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from specdistill.errors import AuditError, AuditUnreachable, MissingExtra, UsageError

PAGE = 500
"""Records read or written in one request: the server's limit for writing."""


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn what the client raises into cause and remedy.

    Raises:
        AuditUnreachable: nobody answers at the address, or the connection broke.
        AuditError: the server refuses.
    """
    import httpx
    from argilla._exceptions import ArgillaAPIError, ArgillaError
    from argilla._exceptions._api import ForbiddenError, UnauthorizedError

    try:
        yield
    except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
        raise AuditUnreachable(
            f"The Argilla server at {url} does not answer ({type(exc).__name__}).",
            "Check that it runs (`specdistill audit serve`) and that the address is right; then run the same command "
            "again: nothing is lost, and nothing is sent twice.",
        ) from exc
    except (UnauthorizedError, ForbiddenError) as exc:
        raise AuditError(
            f"The Argilla server at {url} does not let this key do that.",
            "Give an owner's key with --api-key or ARGILLA_API_KEY; `audit serve --new-credentials` makes new ones.",
        ) from exc
    except httpx.HTTPStatusError as exc:
        if exc.response.status_code in (401, 403):
            raise AuditError(
                f"The Argilla server at {url} refuses the key.",
                "Give an owner's key with --api-key or ARGILLA_API_KEY; `audit serve --new-credentials` makes new "
                "ones.",
            ) from exc
        raise AuditError(
            f"The Argilla server answered {exc.response.status_code}: {exc.response.text[:300]}",
            "Look into the server's log (`server.log` in its home folder).",
        ) from exc
    except ArgillaAPIError as exc:
        raise AuditError(
            f"The Argilla server refused: {str(exc)[:400]}", "Look into the server's log for what it says."
        ) from exc
    except ArgillaError as exc:
        if "credential" in f"{type(exc).__name__} {exc}".lower() or "401" in str(exc):
            raise AuditError(
                f"The Argilla server at {url} refuses the key.",
                "Give an owner's key with --api-key or ARGILLA_API_KEY; `audit serve --new-credentials` makes new "
                "ones.",
            ) from exc
        raise AuditError(f"The Argilla client failed: {exc}", "Check the address and the server's version.") from exc


def connect(url: str | None, api_key: str | None) -> tuple[Any, str]:
    """An `argilla.Argilla` that is signed in, and the address.

    Args:
        url: else ARGILLA_API_URL.
        api_key: else ARGILLA_API_KEY; an owner's or admin's.

    Raises:
        UsageError: no address or no key was given, or what was given is no key.
        MissingExtra: the client is not installed.
        AuditError: the server refuses or does not answer.
    """
    url = url or os.environ.get("ARGILLA_API_URL")
    api_key = (api_key or os.environ.get("ARGILLA_API_KEY") or "").strip()
    if not url or not api_key:
        missing = "address" if not url else "key"
        raise UsageError(
            f"No {missing} of an Argilla server is given.",
            "Give --url and --api-key, or set ARGILLA_API_URL and ARGILLA_API_KEY; `specdistill audit serve` starts a "
            "server and prints both.",
        )
    if not (api_key.isascii() and api_key.isprintable()):
        raise UsageError("The API key holds a character that no key has.", "Copy it again, without anything around it.")
    try:
        import argilla as rg
    except ImportError as exc:
        raise MissingExtra("The audit", "audit") from exc
    with translated(url):
        return rg.Argilla(api_url=url.rstrip("/"), api_key=api_key, timeout=120, retries=2), url.rstrip("/")


def get(client: Any, url: str, path: str, **parameters: Any) -> Any:
    """GET below /api/v1, as JSON; None for 404.

    The client's own records hide discards without values and cannot read responses without any, so answers are read
    as the server gives them.

    Raises:
        AuditError: the server refuses or does not answer.
    """
    with translated(url):
        answer = client.http_client.get(f"/api/v1{path}", params=parameters)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer.json()


def pages_of(client: Any, url: str, dataset_id: str, *, responses: bool) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """A dataset's records as the server has them, page by page, each with how many there are in all.

    Raises:
        AuditError: the dataset vanished meanwhile, or as `get`.
    """
    offset = 0
    while True:
        include = {"include": "responses"} if responses else {}
        page = get(client, url, f"/datasets/{dataset_id}/records", offset=offset, limit=PAGE, **include)
        if page is None:
            raise AuditError(
                f"The Argilla dataset {dataset_id} is gone.",
                "It was deleted while it was read; run the same command again.",
            )
        if page["items"]:
            yield page["items"], page["total"]
        offset += len(page["items"])
        if not page["items"] or offset >= page["total"]:
            return
