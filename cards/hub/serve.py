"""Running the local hub on the loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from specdistill.cards.hub.access import TOKEN_FILE, Access
from specdistill.errors import MissingExtra, UsageError

LOOPBACK = "127.0.0.1"


def serve(folder: Path, port: int, ready: Callable[[str, Path], None]) -> None:
    """Serve a folder until interrupted.

    Args:
        folder: made if missing; holds everything, the token included.
        port: 0 takes a free one.
        ready: called with the URL and the token's file once connections are taken.

    Raises:
        UsageError: the port is taken.
        MissingExtra: starlette or uvicorn are not installed.
    """
    try:
        import uvicorn

        from specdistill.cards.hub.app import LocalHub
    except ImportError as exc:
        raise MissingExtra("The local hub", "hub") from exc

    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except OSError as exc:
        listener.close()
        raise UsageError(f"Port {port} is taken.", "Give another one with --port, or 0 for any free one.") from exc
    listener.listen(256)
    app = LocalHub(folder, Access.of(folder))
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=30)
    ready(f"http://{LOOPBACK}:{listener.getsockname()[1]}", folder / TOKEN_FILE)
    uvicorn.Server(config).run(sockets=[listener])
