"""What the terminal sees: people get tables and bars, machines get JSON, logs get plain lines."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from specdistill.errors import SpecdistillError

JsonFlag = typer.Option(False, "--json", help="Print JSON for machines instead of text.")


def err() -> Console:
    """Where notes and progress go."""
    return Console(stderr=True, highlight=False)


def out() -> Console:
    """Where results go."""
    return Console(highlight=False)


def print_json(data: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2, default=str) + "\n")


def safe(text: str) -> str:
    """Untrusted text for a terminal: control characters and bidi overrides shown as escapes, markup inert."""
    shown = "".join(char if char.isprintable() or char in "\n\t" else f"\\u{ord(char):04x}" for char in text)
    return escape(shown)


def show_error(error: SpecdistillError) -> None:
    """Place and cause, then the remedy."""
    console = err()
    console.print(f"[bold red]error[/] {safe(error.place + error.cause)}", soft_wrap=True)
    console.print(f"[bold]what to do[/] {safe(error.remedy)}", soft_wrap=True)
