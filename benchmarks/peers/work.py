"""The work that every contestant does, and how it says that it is done. Imports nothing but the standard library,
because it runs in each contestant's own environment."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

SYSTEM = ("You follow a policy. " + "Rule: be kind, be careful and say what you know. " * 41).strip()
"""About 2 kB."""


def prompt(number: int) -> str:
    """The user's turn of one row."""
    return f"Tell me about number {number}, and why somebody might want to know it."


def main(work: Callable[[argparse.Namespace], int]) -> None:
    """Run one contestant: `work` gets url, rows, concurrency and out (a folder of its own), and gives the number of
    rows that are on disk with an answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True, help="up to and including /v1")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    found = work(args)
    said = {"rows": found, "done": time.monotonic()}
    (args.out / "done.json").write_text(json.dumps(said))
