"""The engine with scripted models: what is asked, how often, in which order, and what survives."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pippin.core.errors import UnknownName
from pippin.core.store import Store
from pippin.core.types import Call, Key, Request, Sampling, user
from pippin.lm.engine import Failure, request_digest, run
from pippin.lm.forecast import estimate
from pippin.lm.progress import Progress, duration, progress_line
from pippin.lm.scripted import Scripted


def echo(request):
    return f"re: {request.messages[-1].content}"


def ask(text, subject="s", **key):
    return Request(Key(subject, **key), user(text))


def once(text, subject):
    (call,) = yield [ask(text, subject)]
    return call.text


def twice(text, subject):
    (first,) = yield [ask(text, subject)]
    second, third = yield [ask(first.text, subject, turn=1), ask("more", subject, turn=2)]
    return first.text, second.text, third.text


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.db") as store:
        yield store


def test_results_in_the_order_of_the_tasks():
    tasks = {f"t{i}": (twice if i % 2 else once)(f"q{i}", f"t{i}") for i in range(50)}
    got = run(tasks, {"": Scripted(echo)}, max_in_flight=7)
    assert list(got) == list(tasks)
    assert got["t4"] == "re: q4"
    assert got["t5"] == ("re: q5", "re: re: q5", "re: more")


def test_calls_come_in_the_order_of_the_requests():
    class Backwards(Scripted):
        def answer(self, requests):
            yield from reversed(list(super().answer(requests)))

    def task():
        calls = yield [ask(f"q{i}", turn=i) for i in range(9)]
        return [c.text for c in calls], [c.key.turn for c in calls]

    texts, turns = run({"t": task()}, {"": Backwards(echo)})["t"]
    assert texts == [f"re: q{i}" for i in range(9)] and turns == list(range(9))


def test_equal_requests_are_asked_once_and_each_gets_its_own_key():
    model = Scripted(echo)
    tasks = {s: once("same", s) for s in "abc"} | {"d": once("other", "d")}
    seen = []
    got = run(tasks, {"": model}, progress=seen.append)
    assert got == {"a": "re: same", "b": "re: same", "c": "re: same", "d": "re: other"}
    assert model.asked == 2
    assert (seen[-1].asked, seen[-1].shared, seen[-1].done) == (2, 2, 4)


def test_samples_of_one_request_are_different_questions():
    count = iter(range(100))
    model = Scripted(lambda r: f"draw {next(count)}")

    def task():
        calls = yield [ask("q", sample=k) for k in (0, 1, 2)] + [ask("q", "other", sample=1)]
        return [c.text for c in calls]

    texts = run({"t": task()}, {"": model})["t"]
    assert len(set(texts[:3])) == 3 and texts[3] == texts[1]
    assert model.asked == 3


def test_an_equal_request_later_in_the_run_is_not_asked_again():
    model = Scripted(echo)
    tasks = {f"t{i}": twice("q", f"t{i}") for i in range(20)}
    run(tasks, {"": model}, max_in_flight=3)
    assert model.asked == 3


def test_models_by_request_then_role_then_default():
    models = {name: Scripted(lambda r, name=name: name or "default", name=name or "d") for name in ("judge", "ref", "")}

    def task():
        calls = yield [
            Request(Key("s", role="judge"), user("a")),
            Request(Key("s", role="reference"), user("a")),
            Request(Key("s", role="judge", turn=1), user("a"), model="ref"),
        ]
        return [c.text for c in calls]

    assert run({"t": task()}, models)["t"] == ["judge", "default", "ref"]
    lost = run({"t": task()}, {"judge": models["judge"], "reference": models[""]})["t"]
    assert isinstance(lost, Failure) and isinstance(lost.cause, UnknownName)


def test_a_failing_task_is_a_value_and_the_others_go_on():
    def broken():
        yield [ask("q")]
        raise ZeroDivisionError("by design")

    def broken_at_once():
        raise LookupError("no way")
        yield []

    got = run({"a": once("q", "a"), "b": broken(), "c": broken_at_once(), "d": once("r", "d")}, {"": Scripted(echo)})
    assert got["a"] == "re: q" and got["d"] == "re: r"
    assert got["b"] == Failure("b", "ZeroDivisionError: by design") and isinstance(got["b"].cause, ZeroDivisionError)
    assert got["c"].error == "LookupError: no way"


def test_a_task_without_requests():
    def none():
        assert (yield []) == []
        return 7

    assert run({"t": none()}, {})["t"] == 7
    assert run({}, {}) == {}


def test_error_calls_reach_the_task_and_are_asked_again_next_time(store):
    broken = [True]

    def sometimes(request):
        if broken[0] and request.messages[0].content == "q1":
            raise ConnectionError("down")
        return "fine"

    def task(i):
        (call,) = yield [ask(f"q{i}", f"t{i}")]
        return call.stop, call.error

    model = Scripted(sometimes)
    first = run({f"t{i}": task(i) for i in range(3)}, {"": model}, store)
    assert first["t1"] == ("error", "ConnectionError: down") and first["t0"] == ("end", None)
    broken[0] = False
    second = run({f"t{i}": task(i) for i in range(3)}, {"": model}, store)
    assert second["t1"] == ("end", None)
    assert model.asked == 4  # the two that had succeeded were not asked again


def test_a_stored_answer_is_used_whatever_the_store_is_given_under(store):
    model = Scripted(echo)
    tasks = lambda: {f"t{i}": twice(f"q{i}", f"t{i}") for i in range(10)}  # noqa: E731
    first, seen = run(tasks(), {"": model}, store), []
    asked = model.asked
    assert run(tasks(), {"": model}, store, progress=seen.append) == first
    assert model.asked == asked
    assert seen[-1].stored == 30 and seen[-1].asked == 0
    assert run(tasks(), {"": Scripted(echo, name="another")}, store) == first
    assert store.calls([Call(Key("t1"), request_digest("scripted", ask("q1")), "").id])


def test_a_model_that_forgets_a_request_gives_an_error_call():
    class Forgetful(Scripted):
        def answer(self, requests):
            yield from list(super().answer(requests))[1:]

    def task():
        calls = yield [ask("a"), ask("b", turn=1)]
        return [(c.stop, c.error) for c in calls]

    assert run({"t": task()}, {"": Forgetful(echo)})["t"] == [("error", "no answer was given"), ("end", None)]


def test_never_more_tasks_open_than_allowed():
    now, most = [0], [0]

    def counted(i):
        now[0] += 1
        most[0] = max(most[0], now[0])
        (call,) = yield [ask(f"q{i}", f"t{i}")]
        now[0] -= 1
        return call.text

    run({f"t{i}": counted(i) for i in range(40)}, {"": Scripted(echo)}, max_in_flight=6)
    assert most[0] == 6 and now[0] == 0


def test_a_spent_budget_answers_with_errors_that_are_not_stored(store):
    class Paid(Scripted):
        def answer(self, requests):
            from dataclasses import replace

            for call in super().answer(requests):
                yield replace(call, price=0.5)

    model, seen = Paid(echo), []

    def task(i):
        (call,) = yield [ask(f"q{i}", f"t{i}")]
        return call.stop

    tasks = lambda: {f"t{i}": task(i) for i in range(10)}  # noqa: E731
    got = run(tasks(), {"": model}, store, max_in_flight=1, budget=1.4, progress=seen.append)
    assert list(got.values()) == ["end"] * 3 + ["error"] * 7
    assert seen[-1].spent == pytest.approx(1.5)
    assert list(run(tasks(), {"": model}, store).values()) == ["end"] * 10
    assert model.asked == 10


class Slow(Scripted):
    """Waits for others, as an endpoint does; the request "slow" comes last of its batch."""

    concurrent = True

    def answer(self, requests):
        for request in sorted(requests, key=lambda r: r.messages[-1].content == "slow"):
            time.sleep(0.6 if request.messages[-1].content == "slow" else 0.002)
            yield from super().answer([request])


def test_a_slow_answer_does_not_hold_up_the_others():
    ended = {}

    def long(name):
        text = name
        for turn in range(4):
            (call,) = yield [ask(text, name, turn=turn)]
            text = call.text
        ended[name] = time.monotonic()
        return text

    def slow():
        (call,) = yield [ask("slow", "slow")]
        ended["slow"] = time.monotonic()
        return call.text

    tasks = {"slow": slow()} | {f"t{i}": long(f"t{i}") for i in range(20)}
    got = run(tasks, {"": Slow(echo)}, max_in_flight=4)
    assert got["t3"] == "re: re: re: re: t3" and got["slow"] == "re: slow"
    assert sum(when < ended["slow"] for name, when in ended.items()) >= 15


def test_an_error_of_a_model_reaches_the_caller_from_its_thread():
    class Broken(Slow):
        def answer(self, requests):
            raise PermissionError("no key")
            yield

    with pytest.raises(PermissionError, match="no key"):
        run({"t": once("q", "t")}, {"": Broken(echo)})


@pytest.mark.parametrize("kind", [Scripted, Slow])
def test_an_interrupt_keeps_what_was_answered(store, kind):
    answered = []

    def interrupted(request):
        if len(answered) == 5:
            answered.append("stop")
            signal.raise_signal(signal.SIGINT) if kind is Scripted else os.kill(os.getpid(), signal.SIGINT)
            return "late"
        answered.append(request.key.subject)
        return "fine"

    tasks = lambda: {f"t{i}": once(f"q{i}", f"t{i}") for i in range(30)}  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        run(tasks(), {"": kind(interrupted)}, store)
    model = Scripted(lambda r: "again")
    got = run(tasks(), {"": model}, store)
    assert [got[s] for s in answered[:5]] == ["fine"] * 5
    assert model.asked <= 25
    assert not [t for t in threading.enumerate() if "write_on" in t.name]


def test_a_killed_process_has_stored_its_answers(tmp_path):
    """kill -9 half way: the next run asks for the rest only."""
    script = textwrap.dedent(
        f"""
        import os, signal, sys, time
        from pippin.core.store import Store
        from pippin.core.types import Key, Request, user
        from pippin.lm.engine import run
        from pippin.lm.scripted import Scripted
        log = open({str(tmp_path / "asked")!r}, "a")
        def said(request):
            print(request.key.subject, file=log, flush=True)
            if sys.argv[1] == "die" and request.key.subject == "t20":
                time.sleep(1)  # a slow answer: those before it are on the disk by now
                os.kill(os.getpid(), signal.SIGKILL)
            return "fine"
        def task(i):
            (call,) = yield [Request(Key(f"t{{i}}"), user(f"q{{i}}"))]
            return call.text
        got = run({{f"t{{i}}": task(i) for i in range(30)}}, {{"": Scripted(said)}}, Store({str(tmp_path / "s.db")!r}))
        print(len([v for v in got.values() if v == "fine"]))
        """
    )
    first = subprocess.run([sys.executable, "-c", script, "die"], capture_output=True, text=True)
    assert first.returncode == -signal.SIGKILL, first.stderr
    second = subprocess.run([sys.executable, "-c", script, "live"], capture_output=True, text=True, check=True)
    assert second.stdout.strip() == "30"
    asked = (tmp_path / "asked").read_text().split()
    assert len(asked) == 21 + 10 and asked[21:] == [f"t{i}" for i in range(20, 30)]


def test_an_error_of_the_store_is_not_swallowed():
    class Full:
        def calls(self, ids):
            return {}

        def add_calls(self, calls):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        run({"t": once("q", "t")}, {"": Scripted(echo)}, Full())


def test_request_digest_holds_all_that_determines_an_answer():
    base = Request(Key("s"), user("q"), Sampling(1.0, 0.9, 10, 3), labels=("a", "b"))
    same = Request(Key("other", "role", "swapped", 3, 4), user("q"), Sampling(1.0, 0.9, 10, 3), labels=("a", "b"))
    assert request_digest("m", base) == request_digest("m", same)
    others = [
        request_digest("n", base),
        *(
            request_digest("m", Request(base.key, user("q"), Sampling(*s), labels=("a", "b")))
            for s in ((0.5, 0.9, 10, 3), (1.0, 0.8, 10, 3), (1.0, 0.9, 11, 3), (1.0, 0.9, 10, 4))
        ),
        request_digest("m", Request(base.key, user("q "), base.sampling, labels=("a", "b"))),
        request_digest("m", Request(base.key, user("q"), base.sampling, labels=("b", "a"))),
    ]
    assert len({request_digest("m", base), *others}) == 1 + len(others)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=3), min_size=1, max_size=12),
    st.integers(1, 5),
    st.booleans(),
)
def test_any_tasks_get_their_answers_and_nothing_is_asked_twice(plans, in_flight, threads):
    """Each task is a list of turns, each turn a list of questions; content decides the answer."""
    asked = []

    def said(request):
        asked.append(request.messages[0].content)
        return echo(request)

    def task(name, turns):
        out = []
        for turn, questions in enumerate(turns):
            calls = yield [ask(f"q{q}", name, turn=10 * turn + i) for i, q in enumerate(questions)]
            out.append([c.text for c in calls])
        return out

    class Threaded(Scripted):
        concurrent = threads

    got = run({f"t{i}": task(f"t{i}", p) for i, p in enumerate(plans)}, {"": Threaded(said)}, max_in_flight=in_flight)
    assert got == {f"t{i}": [[f"re: q{q}" for q in turn] for turn in p] for i, p in enumerate(plans)}
    assert len(asked) == len(set(asked)) == len({q for p in plans for turn in p for q in turn})


def test_an_estimate_asks_nothing_and_leaves_out_what_is_stored(store):
    model = Scripted(echo)
    run({"t0": once("stored", "t0")}, {"": model}, store)
    model.prices, asked = (2.0, 8.0), model.asked
    tasks = {
        "t0": once("stored", "t0"),
        "t1": twice("x" * 4000, "t1"),
        "t2": once("x" * 4000, "t2"),
        "t3": once("y", "t3"),
    }
    found = estimate(tasks, {"": model}, store)
    assert model.asked == asked
    assert (found.requests, found.stored, found.prompt_tokens, found.completion_tokens) == (2, 1, 1001, 1024)
    assert found.price == (pytest.approx(1001 * 2 / 1e6), pytest.approx((1001 * 2 + 1024 * 8) / 1e6))
    tasks = {"t1": once("q", "t1")}
    assert estimate(tasks, {"": model}, store, scale=3).requests == 3
    model.prices = None
    unknown = estimate({"t1": once("q", "t1")}, {"": model})
    assert unknown.price is None and "unknown price (scripted)" in str(unknown)
    del model.prices
    assert estimate({"t1": once("q", "t1")}, {"": model}).price == (0.0, 0.0)  # what runs here costs nothing


def test_a_line_of_progress():
    half = Progress(838, done=412, asked=412, spent=0.12)
    assert progress_line(half, 6.75) == "412 of 838 done, 61/s, 7 s left, $0.12"
    assert progress_line(Progress(838), 0.0) == "0 of 838 done"
    some = Progress(10, done=10, asked=4, stored=6, failed=1, unasked=2, spent=0.00012)
    assert progress_line(some, 8.0) == "10 of 10 done, 0.5/s, $0.0001, 6 stored, 1 failed, 2 not asked"
    assert [duration(s) for s in (0.2, 99, 110, 7800)] == ["1 s", "99 s", "2 min", "2 h 10 min"]


def test_the_first_requests_do_not_wait_for_the_last_task_to_begin():
    begun, when_asked = [], []

    def task(i):
        begun.append(i)
        (call,) = yield [ask(f"q{i}", f"t{i}")]
        return call.text

    class Waiting(Scripted):
        concurrent = True

        def answer(self, requests):
            when_asked.append(len(begun))
            yield from super().answer(requests)

    got = run({f"t{i}": task(i) for i in range(1000)}, {"": Waiting(echo)})
    assert got["t999"] == "re: q999" and when_asked[0] < 1000


def test_calls_are_on_the_disk_soon_under_load(tmp_path):
    """Within a second of the answer, or as soon as 256 wait, whatever the thread that adds is busy with."""
    from pippin.lm.writer import Writer

    class Slow:
        def __init__(self):
            self.sizes = []

        def calls(self, ids):
            return {}

        def add_calls(self, calls):
            self.sizes.append(len(calls))

    slow = Slow()
    with Writer(slow) as writer:
        for i in range(256):
            writer.add(Call(Key(f"s{i}"), "r", "m"))
        until = time.monotonic() + 5
        while sum(slow.sizes) < 256 and time.monotonic() < until:
            sum(range(1000))  # busy, without a pause
    assert sum(slow.sizes) == 256
