"""What the terminal sees: people get tables and bars, machines get JSON, logs get plain lines."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

import typer
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.control import Control
from rich.markup import escape
from rich.segment import Segment

from specdistill.errors import SpecdistillError
from specdistill.schemas.text import storable, visible

JsonFlag = typer.Option(False, "--json", help="Print JSON for machines instead of text.")


class Inert(RenderHook):
    """Makes whatever is printed harmless to a terminal: styles are ours, the characters are somebody else's."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Wrap everything that is printed."""
        return [one if isinstance(one, Control) else Harmless(one) for one in renderables]


class Harmless:
    """A renderable whose characters are all visible ones."""

    def __init__(self, inner: ConsoleRenderable) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The segments of what is inside, without what a terminal would obey."""
        for segment in console.render(self.inner, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def err() -> Console:
    """Where notes and progress go."""
    return inert(Console(stderr=True, highlight=False))


def out() -> Console:
    """Where results go."""
    return inert(Console(highlight=False))


def inert(console: Console) -> Console:
    """A console that shows control characters in data instead of sending them."""
    console.push_render_hook(Inert())
    return console


def print_json(data: Any) -> None:
    """One JSON document on standard output; what a terminal would obey is escaped, which is the same JSON."""
    sys.stdout.write(visible(json.dumps(data, ensure_ascii=False, indent=2, default=str)) + "\n")


def echo(text: str, *, end: str = "\n", stream: TextIO | None = None) -> None:
    """Plain text: exactly as it is into a file or pipe, without what a terminal would obey on a terminal."""
    stream = stream or sys.stdout
    stream.write((visible(text) if stream.isatty() else storable(text)) + end)
    stream.flush()


def safe(text: str) -> str:
    """Untrusted text within markup: control characters and bidi overrides shown as escapes, markup inert."""
    return escape(visible(text))


def show_error(error: SpecdistillError) -> None:
    """Place and cause, then the remedy."""
    console = err()
    console.print(f"[bold red]error[/] {safe(error.place + error.cause)}", soft_wrap=True)
    console.print(f"[bold]what to do[/] {safe(error.remedy)}", soft_wrap=True)
