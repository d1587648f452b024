"""The command line: `specdistill …`. Commands import what is heavy only when they run."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import NoReturn

import typer

from specdistill.cli import (
    audit,
    build,
    compare,
    demo,
    evaluate,
    experiment,
    hub,
    prompts,
    publish,
    report,
    runs,
    schema,
    spec,
    train,
)
from specdistill.cli.crash import report_crash
from specdistill.cli.output import err, show_error
from specdistill.errors import SpecdistillError
from specdistill.schemas.files import disk_error
from specdistill.version import __version__

app = typer.Typer(
    name="specdistill",
    help="Turn a written policy into training data that teaches a model to reason over it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(demo.demo)
app.add_typer(spec.app, name="spec")
app.add_typer(prompts.app, name="prompts")
app.command()(build.build)
app.command()(runs.status)
app.command()(runs.select)
app.command()(report.report)
app.add_typer(audit.app, name="audit")
app.command()(publish.publish)
app.add_typer(train.app, name="train")
app.command("eval")(evaluate.evaluate)
app.command()(compare.compare)
app.command()(experiment.experiment)
app.add_typer(hub.app, name="hub")
app.add_typer(schema.app, name="schema")


def show_version(value: bool) -> None:
    """Print the version and stop."""
    if value:
        typer.echo(f"specdistill {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=show_version, is_eager=True, help="Show the version."),
) -> None:
    """Options that stand before the command."""


def main() -> None:
    """Run the command line; our own errors become a message and their exit code."""
    try:
        app()
    except SpecdistillError as exc:
        show_error(exc)
        sys.exit(exc.exit_code)
    except KeyboardInterrupt:
        stopped()
    except Exception as exc:  # noqa: BLE001 (whatever it is, its values are not printed)
        if interrupted(exc):
            stopped()
        if isinstance(exc, OSError) and exc.errno in OF_THE_DISK:
            show_error(disk_error(Path(exc.filename or "."), exc))
        else:
            report_crash(exc)
        sys.exit(1)


def stopped() -> NoReturn:
    """End as a command that was told to stop."""
    err().print("Stopped.")
    sys.exit(130)


def interrupted(exc: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: a native library that was being loaded makes an ImportError of it."""
    while exc is not None:
        if isinstance(exc, KeyboardInterrupt):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
"""What a disk can do at any moment, also where no code of ours was writing."""


if __name__ == "__main__":
    main()
