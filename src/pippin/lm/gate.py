"""Where requests to one model at one server wait for their turn, in an event loop. What the turns go by is in
:mod:`pippin.lm.limits`."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import NamedTuple

from pippin.lm.limits import Concurrency, Pace

_OUTAGE = 8  # failures in a row, or requests in a pause, from which a server is taken to be down


class Ticket(NamedTuple):
    """One try that is under way."""

    number: int
    at: float
    tokens: float


class Gate:
    """Where the requests to one model at one server wait for their turn. Used by one event loop."""

    def __init__(self, concurrency: Concurrency, pace: Pace) -> None:
        self.concurrency, self.pace = concurrency, pace
        self.active = self.started = 0
        self.failing = 0  # tries in a row that failed
        self.answered_at = time.monotonic()  # when the server last gave a good answer, or was first asked
        self._waiters: deque[tuple[asyncio.Future[Ticket], float]] = deque()
        self._sleepers: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._prober: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Requests are about to come, in this event loop: what an earlier one has left does not count."""
        if not self.active:
            self.answered_at = time.monotonic()
            self._timer = self._prober = None

    async def enter(self, tokens: float, again: bool = False) -> Ticket:
        """Wait for a turn of a request of about so many tokens; another try goes first. Whoever enters must leave."""
        now = time.monotonic()
        if not self._waiters and self.active < int(self.concurrency.limit) and self.pace.ready_at() <= now:
            return self._start(now, tokens)
        waiter: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        (self._waiters.appendleft if again else self._waiters.append)((waiter, tokens))
        self._wake()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        self.active -= 1
        self._wake()

    def good(self, ticket: Ticket, now: float) -> None:
        """The server answered well."""
        self.concurrency.went_well(now - ticket.at)
        self.pace.admitted(now)
        self.answered_at = now
        if self.failing >= _OUTAGE:  # it is over: nobody sleeps on
            for sleeper in self._sleepers:
                _release(sleeper)
        self.failing = 0

    def too_fast(self, ticket: Ticket, now: float, wait: float | None) -> None:
        """Refused with 429; ``wait`` is what the server asks for. Without it, it may be how many are under way."""
        self.failing += 1
        self.pace.refused(ticket.at, now, wait)
        if wait is None:
            self.concurrency.too_much(ticket.number, self.started)

    def overloaded(self, ticket: Ticket) -> None:
        """No answer in time, or refused for lack of capacity."""
        self.failing += 1
        self.pace.cancelled()
        self.concurrency.too_much(ticket.number, self.started)

    def other(self, now: float, failed: bool) -> None:
        """An answer that says nothing about speed."""
        self.failing += failed
        self.pace.admitted(now)

    async def sleep(self, seconds: float, fixed: bool) -> None:
        """A pause between two tries. One that is not ``fixed`` ends when an outage does."""
        if fixed:
            return await asyncio.sleep(seconds)
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _release, sleeper)
        self._sleepers.append(sleeper)
        if self._prober is None and len(self._sleepers) > _OUTAGE:
            self._prober = loop.call_later(1.0, self._probe)
        try:
            await sleeper
        finally:
            timer.cancel()
            self._sleepers.remove(sleeper)

    def _probe(self) -> None:
        """While many sleep, one a second tries early, so that the end of an outage is seen soon."""
        self._prober = None
        if len(self._sleepers) > _OUTAGE:
            _release(self._sleepers[0])
            self._prober = asyncio.get_running_loop().call_later(1.0, self._probe)

    def _start(self, now: float, tokens: float) -> Ticket:
        self.active += 1
        self.started += 1
        self.pace.started(now, tokens)
        return Ticket(self.started, now, tokens)

    def _wake(self) -> None:
        if not self._waiters:
            return
        now = time.monotonic()
        while self._waiters and self.active < int(self.concurrency.limit):
            wait = self.pace.ready_at() - now
            if wait > 0:
                if wait < math.inf:
                    self._wake_in(wait)
                return
            waiter, tokens = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(self._start(now, tokens))

    def _wake_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._wake)


def _release(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
