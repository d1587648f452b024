"""The heavy half of an engine, and how several engines share one."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

from specdistill.builders.engines.exchange import Completion, Messages, Request, Sampling


class Backend(ABC):
    """The heavy half of an engine. Safe to use from several event loops and threads."""

    @abstractmethod
    def start(self) -> None:
        """Make it ready.

        Raises:
            MissingExtra: a package is not installed.
            EngineError: the model or the options cannot be used.
            EngineUnreachable: the server does not answer.
        """

    @abstractmethod
    def close(self) -> None:
        """Release everything; leaves no process behind. Safe to call twice."""

    @abstractmethod
    async def complete(self, request: Request, sampling: Sampling) -> list[Completion]:
        """See `Engine.complete`."""

    def count_tokens(self, text: str | Messages) -> int | None:
        """Tokens of a text, or of a conversation as the chat template renders it; None without a tokenizer at
        hand."""
        return None


class SharedBackend:
    """A backend and who uses it: started by the first that needs it, closed when the last one is done.

    Args:
        make: gives a fresh, unstarted backend.
    """

    def __init__(self, make: Callable[[], Backend]) -> None:
        self._make = make
        self._users: set[int] = set()
        self._lock = threading.Lock()
        self.backend: Backend | None = None

    def reserve(self, user: object) -> None:
        """Keep the backend alive for `user`, without starting it yet."""
        with self._lock:
            self._users.add(id(user))

    def acquire(self, user: object) -> Backend:
        """The started backend, kept alive for `user`."""
        with self._lock:
            if self.backend is None:
                backend = self._make()
                try:
                    backend.start()
                except BaseException:
                    backend.close()
                    raise
                self.backend = backend
            self._users.add(id(user))
            return self.backend

    def release(self, user: object) -> None:
        """`user` is done; the last one closes the backend."""
        with self._lock:
            self._users.discard(id(user))
            if not self._users:
                self._close()

    def close(self) -> None:
        """Close whoever still uses it."""
        with self._lock:
            self._users.clear()
            self._close()

    def _close(self) -> None:
        backend, self.backend = self.backend, None
        if backend is not None:
            backend.close()
