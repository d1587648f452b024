"""An error that nobody foresaw: where it came from, without the values of variables and without keys.

distilabel installs a traceback that prints the locals of every frame, and Typer has one that can; a command that was
given `--api-key` has the key among its locals. So the command line ends with this one instead.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence

from specdistill.schemas.text import visible

SECRET_NAME = re.compile(r"(?i)key|token|secret|passw|credential")
"""Names of environment variables and options whose values are never shown."""
SHORTEST = 6
"""Characters of a value from which it is taken for a secret: `0` and `true` are settings."""


def report_crash(error: BaseException) -> None:
    """The traceback and what to do, on standard error."""
    text = "".join(traceback.format_exception(error))
    sys.stderr.write(visible(without_secrets(text, secrets_of(os.environ, sys.argv))))
    sys.stderr.write(
        "\nThis should not have happened: specdistill did not foresee it. What is finished is kept, and the same "
        "command resumes. Please report the lines above; keys are masked in them, other text is not.\n"
    )
    sys.stderr.flush()


def secrets_of(environment: Mapping[str, str], words: Sequence[str]) -> Iterator[str]:
    """Values that are secret by the name of their variable or option (`--api-key VALUE`, `--api-key=VALUE`)."""
    for name, value in environment.items():
        if SECRET_NAME.search(name):
            yield value
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, given, value = word.partition("=")
        if option.startswith("--") and SECRET_NAME.search(option):
            yield value if given else following


def without_secrets(text: str, secrets: Iterator[str]) -> str:
    """Each secret masked, the longest first, so that no part of one stays."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= SHORTEST:
            text = text.replace(secret, "***")
    return text
