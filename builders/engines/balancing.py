"""Which of several servers or replicas gets the next request, and which of them rests.

Method: rendezvous hashing (Thaler and Ravishankar, 1998) with bounded loads (Mirrokni, Thorup and Zadimoghaddam,
arXiv:1608.01350). Every server has a prefix cache of its own, so requests with the same beginning (the same
spec(category)) belong together: each beginning has its own order of the servers, the same in every process and after
servers came or went. But no server holds more than 1.25 times its fair share of what is in flight, so a beginning that
is asked for a lot spreads, and a slow server, whose requests stay in flight, is given fewer.

Only state: nothing is sent or waited for here.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import inf

from specdistill.builders.engines.exchange import Request
from specdistill.builders.engines.retrying import LONGEST_WAIT

FAIR = 1.25
"""Times the fair share of requests in flight that one member may hold; 1 is even, without regard to caches."""
OFTEN = 3
"""Faults in a row that may each be one request's own; after so many the member rests."""


@dataclass(eq=False)
class Member:
    """One server or replica.

    Attributes:
        name: unique among its fellows.
        in_flight: requests it is working on.
        faults: in a row, without an answer between.
        rests: times in a row that it was put to rest; each rest is twice as long.
        awake_at: clock's seconds when it may be asked again; inf: when it is said to be back.
        held: it asked for the rest itself, or is away: it is not asked before, whatever happens.
        trial: it has rested and not answered since, so one request at a time tries it.
        gone: its last word was that nobody is there.
    """

    name: str
    in_flight: int = 0
    faults: int = 0
    rests: int = 0
    awake_at: float = 0.0
    held: bool = False
    trial: bool = False
    gone: bool = False


class Balancer:
    """What all requests to a group of servers know together. Safe to use from several threads.

    Args:
        names: of the members.
        rest: seconds of the first rest.
        longest: most seconds of a rest that we decide on.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        rest: float = 1.0,
        longest: float = LONGEST_WAIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.members = [Member(name) for name in names]
        self._rest, self._longest, self._clock = rest, longest, clock
        self._lock = threading.Lock()

    def take(self, prefix: str, besides: Collection[Member] = ()) -> Member | None:
        """The member that gets the next request, which counts as in flight until `done`.

        Args:
            prefix: what the request begins with.
            besides: members to be avoided while others are awake: the request failed there.

        Returns:
            A resting member where no other is left, since nobody knows that it is down; None where that would be
            against a member's own wish: wait for `pause`.
        """
        digest = blake2b(prefix.encode("utf-8", "replace"), digest_size=8).digest() if len(self.members) > 1 else b""
        with self._lock:
            chosen = self._choose(digest, besides)
            if chosen is not None:
                chosen.in_flight += 1
            return chosen

    def _choose(self, digest: bytes, besides: Collection[Member]) -> Member | None:
        ready = self._ready()
        awake = [one for one in self.members if one.awake_at <= self._clock()]
        if fit := [one for one in ready if one not in besides] or ready or awake:
            share = FAIR * (1 + sum(one.in_flight for one in fit)) / len(fit)
            within = [one for one in fit if one.in_flight < share]  # never empty: the least busy is below the mean
            return max(within, key=lambda one: _rank(digest, one.name)) if len(within) > 1 else within[0]
        if any(one.held for one in self.members):
            return None
        return min(self.members, key=lambda one: one.awake_at)

    def _ready(self) -> list[Member]:
        """Members that may be asked as any other."""
        now = self._clock()
        return [one for one in self.members if one.awake_at <= now and not (one.trial and one.in_flight)]

    def pause(self) -> float:
        """Seconds until a member wakes, spread a little so that not all requests come at once; inf if none will by
        itself."""
        left = min(one.awake_at for one in self.members) - self._clock()
        return max(left, 0.0) * random.uniform(1.0, 1.1)

    def others_awake(self, besides: Collection[Member]) -> bool:
        """Whether a request that failed on these members could go elsewhere at once."""
        return any(one not in besides for one in self._ready())

    @property
    def all_gone(self) -> bool:
        """Nobody is there: the last word of every member."""
        return all(one.gone for one in self.members)

    def done(self, member: Member) -> None:
        """A request to the member ended, however."""
        with self._lock:
            member.in_flight -= 1

    def answered(self, member: Member) -> None:
        """The member answered: it is well. A wish to be left alone stands."""
        with self._lock:
            member.faults, member.rests, member.trial, member.gone = 0, 0, False, False
            if not member.held or member.awake_at <= self._clock():
                member.held, member.awake_at = False, 0.0

    def failed(self, member: Member, *, gone: bool = False, hold: float | None = None) -> None:
        """A request to the member failed for a reason that may pass.

        Args:
            gone: nobody was there.
            hold: seconds that the member asked to be left alone, if it did.
        """
        with self._lock:
            now = self._clock()
            member.faults += 1
            member.gone = gone
            if hold is not None:
                member.awake_at = max(member.awake_at, now + hold)
                member.held = True
            elif (gone or member.faults >= OFTEN) and member.awake_at <= now:
                # Once for all the requests that were in flight when it went.
                member.awake_at = now + min(self._longest, self._rest * 2.0 ** min(member.rests, 30))
                member.rests += 1
                member.held, member.trial = False, True

    def away(self, member: Member) -> None:
        """The member is not there until `back`."""
        with self._lock:
            member.awake_at, member.held = inf, True

    def back(self, member: Member) -> None:
        """The member is there, and new."""
        with self._lock:
            member.faults, member.rests, member.awake_at = 0, 0, 0.0
            member.held, member.trial, member.gone = False, False, False


def prefix_of(request: Request) -> str:
    """What requests that belong together have in common: their first message, which holds spec(category) where the
    spec is in a system prompt."""
    return request.messages[0]["content"] if request.messages else ""


def _rank(digest: bytes, name: str) -> bytes:
    """A number for each pair of a beginning and a member, without order between members."""
    return blake2b(digest + name.encode(), digest_size=8).digest()
