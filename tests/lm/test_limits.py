"""How fast a server is asked, in simulated time: servers that limit requests in the ways that servers do."""

import heapq
import itertools
import math
import random

import pytest

from pippin.lm.limits import Concurrency, Pace, seconds


class Bucket:
    """Admits ``rate`` a second, and a burst after a pause."""

    def __init__(self, rate, burst, header="whole"):
        self.rate, self.burst, self.tokens, self.last, self.header = rate, burst, burst, 0.0, header

    def __call__(self, now):
        self.tokens = min(self.burst, self.tokens + (now - self.last) * self.rate)
        self.last = now
        if self.tokens >= 1:
            self.tokens -= 1
            return None
        return after((1 - self.tokens) / self.rate, self.header)


class Window:
    """Admits so many in every window."""

    def __init__(self, most, length=1.0, header="whole"):
        self.most, self.length, self.header, self.window, self.count = most, length, header, 0, 0

    def __call__(self, now):
        window = math.floor(now / self.length)
        if window > self.window:
            self.window, self.count = window, 0
        self.count += 1
        return None if self.count <= self.most else after((window + 1) * self.length - now, self.header)


class Sliding(Window):
    """Admits so many in any second."""

    def __call__(self, now):
        self.admitted = [t for t in getattr(self, "admitted", []) if t > now - self.length]
        if len(self.admitted) < self.most:
            self.admitted.append(now)
            return None
        return after(self.admitted[0] + self.length - now, self.header)


def after(wait, header):
    return math.ceil(wait) if header == "whole" else wait


def simulate(server, requests, latency, connections=64, quota=None):
    """(times of the answers, refusals) of a client that follows Pace and Concurrency. ``quota`` gives the headers."""
    pace, concurrency = Pace(), Concurrency(min(32, connections), 4, connections)
    now, events, order = 0.0, [], itertools.count()
    fresh, again, active, started, busy = requests, 0, 0, 0, 0
    done, refused = [], 0
    while len(done) < requests:
        waiting = again or (fresh and busy < connections)
        free = waiting and active < int(concurrency.limit)
        if free and pace.ready_at() <= now:
            if again:
                again -= 1
            else:
                fresh, busy = fresh - 1, busy + 1
            active, started = active + 1, started + 1
            pace.started(now)
            heapq.heappush(events, (now + latency / 2 + 1e-4, next(order), "arrives", now, started, None, None))
            continue
        if free and pace.ready_at() < (events[0][0] if events else math.inf):
            now = pace.ready_at()
            continue
        now, _, what, sent, number, wait, told = heapq.heappop(events)
        if what == "arrives":
            wait = server(now)
            told, back = quota and quota(server, now), now + (latency / 2 if wait is None else 1e-3)
            heapq.heappush(events, (back, next(order), "back", sent, number, wait, told))
        elif what == "sleeps":
            again += 1
        else:
            active -= 1
            if told:
                pace.told(told, active, now)
            if wait is None:
                pace.admitted(now)
                concurrency.went_well(now - sent)
                done.append(now)
                busy -= 1
            else:
                refused += 1
                pace.refused(sent, now, wait)
                heapq.heappush(events, (now + wait, next(order), "sleeps", sent, number, None, None))
    return done, refused


def rate(done):
    """Answers per second, without the first and last tenth."""
    low, high = len(done) // 10, len(done) - len(done) // 10 - 1
    return (high - low) / (done[high] - done[low])


LIMITED = {
    "a bucket": lambda: Bucket(20, 20),
    "a bucket, exact": lambda: Bucket(20, 20, "exact"),
    "a small bucket": lambda: Bucket(20, 5, "exact"),
    "a window": lambda: Window(20),
    "a window, exact": lambda: Window(20, header="exact"),
    "a sliding window": lambda: Sliding(20, header="exact"),
}


@pytest.mark.parametrize("latency", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("kind", LIMITED)
def test_a_limit_of_twenty_a_second_is_found(kind, latency):
    """What is wanted of 20/s: at least 95 % of it, fewer than 10 % of the calls refused."""
    done, refused = simulate(LIMITED[kind](), 805, latency)
    assert rate(done) >= 0.95 * 20
    assert refused < 0.1 * 805


@pytest.mark.parametrize("limit", [3, 200])
def test_other_limits_are_found_too(limit):
    done, refused = simulate(Bucket(limit, limit), 40 * limit, 0.1)
    assert rate(done) >= 0.9 * limit
    assert refused < 32 + 0.1 * 40 * limit * max(1, 20 / limit)  # 32 are under way before anything is known


def test_a_limit_that_is_lifted_is_forgotten():
    bucket = Bucket(20, 20)
    done, _ = simulate(lambda now: bucket(now) if now < 20 else None, 3000, 0.2)
    by_second = [sum(int(t) == k for t in done) for k in range(60)]
    assert sum(by_second[:20]) <= 20 * 21
    assert max(by_second[20:50]) >= 0.95 * 64 / 0.2


def test_after_an_overload_the_rate_comes_back():
    """Everything is refused for five seconds: hardly anything is sent then, and later all is as before."""
    done, refused = simulate(lambda now: 1.0 if 2 < now < 7 else None, 9000, 0.2)
    by_second = [sum(int(t) == k for t in done) for k in range(45)]
    assert refused < 120
    assert by_second[8] > 50 and by_second[9] > 150
    assert max(by_second[8:40]) >= 0.95 * 64 / 0.2


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_refusals_that_have_nothing_to_do_with_the_rate_do_not_stop_a_run(share):
    rng = random.Random(0)
    done, _ = simulate(lambda now: 1.0 if rng.random() < share else None, 1000, 0.05)
    assert len(done) / done[-1] > 10


def test_concurrency_doubles_but_no_faster_than_in_a_tenth_of_a_second():
    slow, quick = Concurrency(highest=100), Concurrency(highest=100)
    for _ in range(32):
        slow.went_well(0.2)
        quick.went_well(0.001)
    assert slow.limit == 64 and quick.limit == pytest.approx(32.32)


def test_concurrency_halves_once_an_episode_and_climbs_back():
    concurrency = Concurrency(limit=100, highest=100)
    for number in range(1, 81):  # all were under way at the first
        concurrency.too_much(number, started=80)
    assert concurrency.limit == 50 and concurrency.slowed
    rounds = 0
    while concurrency.limit < 100 and rounds < 30:
        rounds += 1
        for _ in range(int(concurrency.limit)):
            concurrency.went_well(0.2)
    assert 2 < rounds < 12
    for number in range(100, 200):
        concurrency.too_much(number, started=number)
    assert concurrency.limit == concurrency.lowest


def headers(limit, remaining, reset, what="requests"):
    return {f"x-ratelimit-{k}-{what}": str(v) for k, v in
            (("limit", limit), ("remaining", remaining), ("reset", reset))}  # fmt: skip


def of_bucket(server, now):
    return headers(20, int(server.tokens), f"{(server.burst - server.tokens) / server.rate:.3f}s")


def of_window(server, now):
    return headers(20, max(0, server.most - server.count), f"{server.length - now % server.length:.3f}s")


@pytest.mark.parametrize("latency", [0.0, 0.05, 0.2])
@pytest.mark.parametrize(("make", "quota"), [(lambda: Bucket(20, 20), of_bucket), (lambda: Window(20), of_window)])
def test_a_server_that_states_its_quota_hardly_ever_refuses(make, quota, latency):
    done, refused = simulate(make(), 805, latency, quota=quota)
    assert rate(done) >= 0.9 * 20
    assert refused < 0.04 * 805


def test_a_quota_that_comes_back_bit_by_bit():
    """60 a minute, one back every second: with all 60 used and none under way, the next fits in a second."""
    pace = Pace()
    pace.told(headers(60, 59, "1s"), 0, 100.0)
    assert pace.ready_at() <= 100.0
    pace.told(headers(60, 0, "1m0s"), 0, 100.0)
    assert pace.ready_at() == pytest.approx(101.0)
    pace = Pace()
    pace.told(headers(60, 2, "58s"), 5, 100.0)  # five that are still out will take what is there
    assert pace.ready_at() == pytest.approx(104.0)


def test_a_quota_that_comes_back_all_at_once():
    pace = Pace()
    pace.told(headers(20, 10, "0.8"), 0, 100.2)
    pace.told(headers(20, 5, "0.7"), 0, 100.3)
    assert pace.ready_at() <= 100.3
    pace.told(headers(20, 0, "0.6"), 0, 100.4)
    assert pace.ready_at() == pytest.approx(101.0)


def test_a_quota_of_tokens_counts_what_requests_really_take():
    pace = Pace()
    pace.used(0.0, 1000.0)
    pace.told(headers(30_000, 1_000, "29s", "tokens"), 0, 100.0)
    assert pace.ready_at() <= 100.0
    pace.told(headers(30_000, 500, "29.5s", "tokens"), 0, 100.0)
    assert pace.ready_at() == pytest.approx(100.5)


def test_limits_that_were_stated_are_kept():
    pace = Pace(requests_per_second=10.0, tokens_per_second=1000.0)
    starts, now = [], 50.0
    for _ in range(50):
        now = max(now, pace.ready_at())
        pace.started(now, tokens=50.0)
        starts.append(now)
    assert starts[-1] - starts[0] == pytest.approx(4.9)
    for _ in range(50):
        now = max(now, pace.ready_at())
        pace.started(now, tokens=500.0)
    assert pace.ready_at() - starts[-1] == pytest.approx(25.0, abs=0.2)
    pace.used(500.0, 100.0)
    assert pace.ready_at() - starts[-1] == pytest.approx(24.6, abs=0.2)


def test_times_in_headers():
    assert [seconds(t) for t in ("1s", "6m0s", "8.64s", "20ms", "1h2m3s", "7", " 0.5 ")] == pytest.approx(
        [1, 360, 8.64, 0.02, 3723, 7, 0.5]
    )
    assert all(seconds(t) is None for t in ("", "soon", "-1", "1x", "nan"))


def test_a_rate_that_was_learned_long_ago_is_forgotten():
    pace = Pace(rate=10.0)
    now = 0.0
    for _ in range(200):
        now += 1e6
        pace.started(now)
        pace.started(now)
        pace.started(now)
        pace.admitted(now)
    assert pace.ready_at() <= now + 1


def test_broken_headers_are_passed_over():
    pace = Pace()
    pace.told(headers("many", 0, "1s"), 3, 1.0)
    pace.told({"x-ratelimit-limit-requests": "5"}, 3, 1.0)
    assert pace.ready_at() <= 1.0
