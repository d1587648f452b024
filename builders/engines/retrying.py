"""When to ask a server again, how long to wait, and when to conclude that nobody is there.

A fault is either passing (asked again, a bounded number of times), the row's own (recorded, neighbours
untouched), the configuration's (the run ends at once) or an outage (the run ends and can be resumed).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

PASSING_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""HTTP statuses that may go away by themselves."""
CONFIGURATION_STATUS = frozenset({401, 402, 403, 404, 405, 410})
"""HTTP statuses that every row would get."""
OUTAGE_AFTER = 16
"""Requests in a row that used up all their tries, with no answer to any request between them."""
LONGEST_WAIT = 60.0
"""Most seconds between two tries, unless the server names more."""


class PassingFault(Exception):
    """A try that failed for a reason that may pass.

    Args:
        reason: what happened, in a few words.
        retry_after: seconds the server asked to wait, if it did.
        unreachable: there was not even a connection.
        cut: the connection ended before the answer did, as it does when a server dies.
    """

    def __init__(
        self, reason: str, *, retry_after: float | None = None, unreachable: bool = False, cut: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason, self.retry_after, self.unreachable, self.cut = reason, retry_after, unreachable, cut


class RowFault(Exception):
    """The server answered, and the answer is that this request cannot be done."""


@dataclass(frozen=True)
class Backoff:
    """Full jitter: the wait before further try n (from 0) is uniform on [0, base × 2^n].

    Method: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.

    Attributes:
        base: seconds.
        longest: most seconds.
    """

    base: float = 1.0
    longest: float = LONGEST_WAIT

    def wait(self, attempt: int) -> float:
        """Seconds to wait before further try `attempt`."""
        return random.uniform(0.0, min(self.longest, self.base * 2.0 ** min(attempt, 30)))


def retry_after(value: str | None, longest: float) -> float | None:
    """Seconds a `Retry-After` header asks for (a number or an HTTP date), at most `longest`; None if it says
    nothing."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
            seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError, TypeError):  # a date of no calendar
            return None
    return min(max(seconds, 0.0), longest) if seconds == seconds else None  # NaN is not equal to itself


class Misses:
    """Whether the servers of an engine are there at all, as all its requests know it together."""

    def __init__(self) -> None:
        self._missed = 0

    def answer(self) -> None:
        """A request was answered, if only with a refusal."""
        self._missed = 0

    def miss(self) -> bool:
        """A request used up its tries; True when so many did in a row that the servers must be taken for
        down."""
        self._missed += 1
        return self._missed >= OUTAGE_AFTER
