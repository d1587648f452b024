"""`specdistill hub`: a local hub to rehearse releases with."""

from __future__ import annotations

from pathlib import Path

import typer

from specdistill.cli.output import out, safe

app = typer.Typer(help="A local hub: rehearse a release on this machine.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Options that stand before the command."""


@app.command()
def serve(
    folder: Path = typer.Argument(..., metavar="DIR", file_okay=False, help="Keeps everything; made if missing."),
    port: int = typer.Option(8765, min=0, max=65535, help="Port on the loopback interface; 0 takes a free one."),
) -> None:
    """Serve a local hub from DIR until Ctrl-C.

    It speaks enough of the Hub's protocol (Xet included) for publish, load_dataset and training. It is for this
    machine only: one user, one token, no TLS, no web pages, no git.
    """
    from specdistill.cards.hub.serve import serve as run

    def ready(url: str, token: Path) -> None:
        console = out()
        console.print(f"local hub at {url}, files in {safe(str(folder))}; stop it with Ctrl-C", soft_wrap=True)
        console.print("In another terminal:", soft_wrap=True)
        console.print(
            f"  export HF_ENDPOINT={url} HF_TOKEN=$(cat '{safe(str(token))}') HF_HOME=$(mktemp -d)", soft_wrap=True
        )
        console.print("One HF_HOME per hub: the cache is keyed by repository name alone.", soft_wrap=True)

    run(folder, port, ready)
