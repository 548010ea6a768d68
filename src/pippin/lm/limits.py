"""How fast a server is asked: what it was told not to exceed, and what it shows that it can take.

Two things are learned, one per model and server. :class:`Concurrency`: how many requests may be under way at once;
overload (503, 529, time-outs) lowers it. :class:`Pace`: how many may start in a second; refusals with 429 and
Retry-After lower it, and ``x-ratelimit-*`` headers say it before anything is refused. Both climb back after trouble is
over: at once to near where it began, then slowly, then faster the longer nothing happens. Neither reads a clock: the
caller says what time it is. :mod:`pippin.lm.gate` puts them before requests.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

_SPAN = 2.0  # seconds over which the rate that a server admits is measured
_GROWTH = 0.01  # per second, near the rate at which a server last refused; doubles every three seconds without refusal
_QUICK = 1.0  # per second, well below that rate or before it is known
_CUT, _CUT_MORE = 0.97, 0.9  # of the rate, at a refusal now and then, and where they come close together
_PAUSE = 0.5  # seconds, after a refusal that does not say how long to wait
_LOOK = 0.3  # seconds without a new request after the first refusal
_STORM = 0.5  # of the last 10 requests refused: there is a limit on the rate, and it is learned
_QUIET = 40  # admitted in a row: the rate was well chosen
_MANY = 0.3  # of those since the last cut refused: the rate is far too high


@dataclass
class Concurrency:
    """How many requests may be under way at once.

    It starts at 32 and doubles with every round while all goes well, but not more than once in a tenth of a second:
    a server that answers at once needs no more, and one that is about to refuse refuses fewer.
    """

    limit: float = 32.0
    lowest: int = 4
    highest: int = 100
    slowed: bool = False
    _ceiling: float = math.inf  # the limit at which trouble last began
    _step: float = 1.0  # what a round above three quarters of the ceiling adds; doubles with every quiet one
    _quiet: int = 0
    _cut: int = 0

    def went_well(self, seconds: float) -> None:
        """A request was answered after so many seconds."""
        if self.limit < 0.75 * self._ceiling:
            self.limit = min(self.highest, self.limit + min(1.0, 10.0 * seconds))
            return
        self.limit = min(self.highest, self.limit + self._step / self.limit)
        self._quiet += 1
        if self._quiet >= self.limit:
            self._quiet, self._step = 0, min(2 * self._step, self.limit)

    def too_much(self, number: int, started: int) -> None:
        """Request ``number`` of ``started`` met an overload. Those that were under way at a cut do not cut again."""
        if number > self._cut:
            self._ceiling = self.limit
            self.limit, self.slowed = max(self.lowest, self.limit / 2), True
            self._cut, self._step, self._quiet = started, 1.0, 0


@dataclass
class Quota:
    """What a server's ``x-ratelimit-*`` headers say of requests, or of tokens."""

    limit: float = 0.0
    remaining: float = 0.0
    full_at: float = 0.0
    window: bool = False  # the quota comes back all at once; else bit by bit
    known: bool = False
    paced: float = math.inf  # requests per second, once the quota has been used up
    span: float = 0.0  # the longest time that was left until all came back

    def told(self, limit: float, remaining: float, reset: float, now: float) -> None:
        full_at = now + reset
        if self.known and remaining < self.remaining:
            # what comes back bit by bit takes longer the more is used
            used = self.remaining - remaining
            expected = used * reset / max(limit - remaining, 1.0)
            self.window = full_at - self.full_at < expected / 2
        self.limit, self.remaining, self.full_at, self.known = limit, remaining, full_at, True
        self.span = max(self.span, reset)

    def rate(self, now: float) -> float:
        """What comes back in a second."""
        if self.window:
            return self.limit / self.span
        used, left = self.limit - self.remaining, self.full_at - now
        return used / left if used > 0 and left > 0 else math.inf

    def free_at(self, under_way: float, cost: float, now: float) -> float:
        """When another request of ``cost`` fits beside what is under way."""
        short = under_way + cost - self.remaining
        if not self.known or short <= 0 or self.full_at <= now:
            return now
        return self.full_at if self.window else min(self.full_at, now + short / self.rate(now))


@dataclass
class Pace:
    """When the next request may start.

    Args:
        requests_per_second, tokens_per_second: limits that are not to be exceeded.
    """

    requests_per_second: float = math.inf
    tokens_per_second: float = math.inf
    rate: float = math.inf  # learned, per second
    refusals: int = 0
    requests: Quota = field(default_factory=Quota)
    tokens: Quota = field(default_factory=Quota)
    tokens_each: float = 0.0  # of one request, on average
    _ceiling: float = math.inf  # the rate at which a refusal last came
    _next: float = 0.0
    _tokens_next: float = 0.0
    _held: float = -math.inf  # nobody starts before
    _held_at: float = -math.inf
    _probing: bool = False  # after a hold one request goes ahead
    _probe_out: bool = False
    _quota_free: float = -math.inf
    _cut_at: float = -math.inf
    _grown_at: float = 0.0
    _refused_at: float = -math.inf
    _quiet: int = 0  # admitted since the last refusal
    _strikes: float = 0.0
    _distrusts: int = 0
    _distrusted: float = -math.inf  # refusals before are not taken for a matter of rate
    _measuring: bool = False  # between the first refusal and the end of its hold
    _admitted: int = 0
    _marks: deque[tuple[float, int]] = field(default_factory=deque)  # (time, admitted by then)
    _recent: deque[bool] = field(default_factory=lambda: deque(maxlen=20))  # refused?

    def ready_at(self) -> float:
        """The earliest time at which another request may start."""
        if self._probing and self._probe_out:
            return math.inf
        return max(self._next, self._tokens_next, self._held, self._quota_free)

    def started(self, now: float, tokens: float = 0.0) -> None:
        """A request starts, of about so many tokens."""
        if self._measuring:
            self._measure(now)
        if not self._marks:
            self._marks.append((now, self._admitted))
        rate = min(self.rate, self.requests_per_second, self.requests.paced, self.tokens.paced)
        if rate < math.inf:  # up to four turns that were missed are made up for, where no limit was stated
            missed = 4.0 / rate if rate < self.requests_per_second else 0.0
            self._next = max(self._next, now - missed) + 1.0 / rate
        if self.tokens_per_second < math.inf:
            self._tokens_next = max(self._tokens_next, now) + tokens / self.tokens_per_second
        if self._probing:
            self._probe_out = True

    def admitted(self, now: float) -> None:
        """A request was taken."""
        self._admitted += 1
        self._recent.append(False)
        self._probing = self._probe_out = False
        self._quiet += 1
        if self._quiet >= _QUIET:
            self._strikes, self._distrusts = 0.0, 0
        if now - self._marks[-1][0] >= _SPAN / 20 if self._marks else True:
            self._marks.append((now, self._admitted))
            while len(self._marks) > 2 and self._marks[1][0] < now - _SPAN:
                self._marks.popleft()
        if self.rate < math.inf:
            self._grow(now)

    def used(self, expected: float, tokens: float) -> None:
        """A request that was expected to take so many tokens took ``tokens``."""
        self.tokens_each += (tokens - self.tokens_each) * (0.05 if self.tokens_each else 1.0)
        if self.tokens_per_second < math.inf:
            self._tokens_next += (tokens - expected) / self.tokens_per_second

    def refused(self, sent_at: float, now: float, wait: float | None = None) -> None:
        """A request that started at ``sent_at`` was refused with 429, for ``wait`` seconds if the server says so."""
        self.refusals += 1
        pause = _PAUSE if wait is None else max(wait, 0.0)
        if self._probing and self._probe_out:  # nothing was admitted since: the rate is not to blame
            self._hold(now, now + pause)
            return
        if sent_at < self._held_at or now < self._distrusted or (wait is None and self.rate == math.inf):
            return
        self._recent.append(True)
        quiet, self._quiet = self._quiet, 0
        if self.rate == math.inf:
            last = list(self._recent)[-10:]
            if len(last) == 10 and sum(last) >= _STORM * 10:
                self._engage(now, pause)
            elif now - self._refused_at > _SPAN:  # the first for a while: see what becomes of those under way
                self._held = now + min(pause, _LOOK)
            self._refused_at = now
        elif sent_at >= self._cut_at:
            share = sum(self._recent) / len(self._recent)
            if len(self._recent) >= 8 and share >= _MANY:
                self._cut(now, self.rate * max(0.5, 1.0 - share), 1.0)
                self._hold(now, now + pause)
            else:
                seldom = quiet >= _QUIET / 2
                self._cut(now, self.rate * (_CUT if seldom else _CUT_MORE), 0.25 if seldom else 0.5)

    def cancelled(self) -> None:
        """A request ended without a word on the rate."""
        self._probe_out = False

    def told(self, headers: Mapping[str, str], under_way: int, now: float) -> None:
        """Read ``x-ratelimit-*`` headers of an answer; ``under_way`` requests are still out."""
        for quota, what, each in ((self.requests, "requests", 1.0), (self.tokens, "tokens", self.tokens_each or 1.0)):
            limit, remaining = (headers.get(f"x-ratelimit-{name}-{what}") for name in ("limit", "remaining"))
            reset = seconds(headers.get(f"x-ratelimit-reset-{what}", ""))
            try:
                if limit is None or remaining is None or reset is None:
                    continue
                quota.told(float(limit), float(remaining), reset, now)
            except ValueError:
                continue
            free = quota.free_at(under_way * each, each, now)
            if free > now and quota.paced == math.inf:  # the first burst is over
                self._quota_free = max(self._quota_free, free)
            if free > now or quota.paced < math.inf:  # where little is used, its times are too coarse for a rate
                fine = quota.window or quota.remaining < 0.75 * quota.limit
                quota.paced = quota.rate(now) / each if fine else math.inf

    def _hold(self, now: float, until: float) -> None:
        self._held_at, self._held = now, max(self._held, until)
        self._next = max(self._next, until)
        self._probing, self._probe_out = True, False
        self._recent.clear()
        if not self._measuring:
            self._marks.clear()

    def _engage(self, now: float, pause: float) -> None:
        """Refusals have become many: wait, and measure what is admitted until the server admits again."""
        self.rate, self._measuring, self._strikes = 1.0 / max(pause, 1.0), True, 0
        self._cut_at = self._grown_at = now
        self._hold(now, now + pause)

    def _measure(self, now: float) -> None:
        """The first estimate: what was admitted from the start to the end of the first hold."""
        since, before = self._marks[0] if self._marks else (now, self._admitted)
        count = self._admitted - before
        self.rate = max(self.rate, count / max(now - since, 1.0)) if count else max(self.rate, 10.0)
        self._ceiling = self.rate if count >= 10 else math.inf
        self._measuring = False
        self._marks.clear()

    def _cut(self, now: float, rate: float, strike: float) -> None:
        """Go on at this rate. Where cut upon cut brings no quiet, it is not the rate that refusals go by."""
        self.rate = self._ceiling = rate
        self._cut_at = self._grown_at = now
        self._strikes += strike
        if self._strikes >= 5:
            self.rate, self._strikes = math.inf, 0.0
            self._recent.clear()
            self._marks.clear()
            self._distrusts += 1
            if self._distrusts > 1:
                self._distrusted, self._distrusts = now + 60.0, 0

    def _grow(self, now: float) -> None:
        passed = min(now - self._grown_at, 1.0)
        if passed < 0.05:
            return
        self._grown_at = now
        if self._next + 2.0 / self.rate < now:  # it is not the pace that holds us up
            return
        quick = self.rate < 0.9 * self._ceiling
        slow = max(1.0, 15.0 / self.rate)  # a slow server shows a rate that is too high only after a while
        doublings = min(20.0, (now - self._cut_at) / (3.0 * slow))
        growth = _QUICK if quick else min(1.0, _GROWTH / slow * 2.0**doublings)
        since, before = self._marks[0] if self._marks else (now, self._admitted)
        if now - since >= 0.5 * _SPAN and self.rate > 3.0 * (self._admitted - before) / (now - since):
            return  # nobody asks for as much
        self.rate *= 1.0 + growth * passed
        if self.rate > 1e6:
            self.rate = math.inf


_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}


def seconds(text: str) -> float | None:
    """``1s``, ``6m0s``, ``8.64s``, ``20ms`` or a bare number, as rate-limit headers write times. None if it is none."""
    text = text.strip()
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|[smhd]))+|\d+(\.\d+)?", text):
        return None
    return sum(float(number) * _UNITS[unit] for number, _, unit in re.findall(r"(\d+(\.\d+)?)(ms|[smhd]|)", text))
