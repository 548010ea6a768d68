"""Drives generators of requests: what ``judge``, ``make`` and ``respond`` have in common.

A task is a generator that yields lists of requests, receives their calls in the same order, and returns a record. It
has no input or output of its own. The engine holds many tasks open at once, asks for what they want in common batches,
never asks twice for the same thing, stores every call as it comes, and resumes from what is stored.

Models that wait for others (``concurrent = True``: endpoints) are asked from threads of their own, several batches at
once, so that one slow answer does not hold up the tasks beside it. Models that compute here are asked one at a time.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from pippin.core.errors import UnknownName
from pippin.core.types import Call, Request, digest
from pippin.lm.progress import Progress
from pippin.lm.protocols import Answers
from pippin.lm.writer import Calls, Writer

R = TypeVar("R")
Task = Generator[list[Request], list[Call], R]
Content = tuple[str, int]  # request digest and sample: what tells one answer from another

_BATCHES = 16  # batches of concurrent models under way at once
_FIRST = 64  # tasks begun before the first requests are sent
_GRACE = 2.0  # seconds that an interrupted run waits for calls in flight


@dataclass(frozen=True)
class Failure:
    """A task that ended with an exception. A value among the results: the other tasks went on."""

    id: str
    error: str
    cause: Exception | None = field(default=None, compare=False, repr=False)


def request_digest(model: str, request: Request) -> str:
    """Hash of all that determines an answer but chance: who is asked (:func:`identity`), and the request's content.

    Who asks (the key) is not in it; draws of one request are told apart by ``key.sample``.
    """
    try:
        return _request_digest(model, request)
    except TypeError:  # a list stands where a tuple should: it cannot be looked up, but hashed all the same
        return _request_digest.__wrapped__(model, request)


@lru_cache(maxsize=4096)
def _request_digest(model: str, request: Request) -> str:
    content = [[m.role, m.content] for m in request.messages]
    s = request.sampling
    return digest(["request", model, content, [s.temperature, s.top_p, s.max_tokens, s.seed], list(request.labels)])


def identity(model: Answers) -> str:
    """What a model's answers depend on beside the request: its ``identity`` where it has one, else its name."""
    return getattr(model, "identity", model.name)


def model_of(models: Mapping[str, Answers], request: Request) -> str:
    """The name in ``models`` of who answers ``request``.

    Raises:
        UnknownName: nobody does.
    """
    if request.model:
        if request.model in models:
            return request.model
    elif request.key.role in models:
        return request.key.role
    elif "" in models:
        return ""
    raise UnknownName("model", request.model or request.key.role, models)


def call_id(request: Request, asked: str) -> str:
    """``Call.id`` of the call that will answer ``request``, whose digest is ``asked``."""
    return digest(["call", vars(request.key), asked])


def run(
    tasks: Mapping[str, Task[R]],
    models: Mapping[str, Answers],
    store: Calls | None = None,
    *,
    progress: Callable[[Progress], None] | None = None,
    max_in_flight: int = 1024,
    budget: float | None = None,
) -> dict[str, R | Failure]:
    """The result of every task, in the order of ``tasks``.

    Args:
        tasks: generators that have not been started, by id.
        models: who answers, by ``request.model`` where a request names one, else by ``request.key.role``; the entry
            ``""`` answers whatever role has no entry of its own.
        store: where calls are kept between runs; ``None`` keeps them for this run only. A stored success is used, a
            stored failure is asked again.
        progress: told after every call and every task.
        max_in_flight: most generators open at once; the others have not begun.
        budget: US dollars. Once calls of this run have cost as much, or a call has no known price, nothing more is
            asked: what is under way is awaited and stored, all else is answered with error calls, which are not stored.

    An exception of one task becomes a :class:`Failure`; an interrupt leaves what was answered stored.
    """
    with Writer(store) as writer:
        return _Run(tasks, models, writer, progress, max_in_flight, budget).results()


class _Place(NamedTuple):
    """Where a call is awaited: which task, where in its list, the request as that task put it, the id of its call."""

    task_id: str
    at: int
    request: Request
    id: str


class Asked(Sequence[Request]):
    """Requests that are asked together. ``wanted`` turns False when those that have not been sent are to be left."""

    def __init__(self, requests: Sequence[Request], wanted: Callable[[], bool]) -> None:
        self.requests, self.wanted = requests, wanted

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, at: Any) -> Any:
        return self.requests[at]


class _Waiting:
    """A task that waits for a list of calls."""

    def __init__(self, task: Task[Any]) -> None:
        self.task = task
        self.calls: list[Call | None] = []
        self.missing = 0


class _Run:
    """The state of one run."""

    def __init__(
        self,
        tasks: Mapping[str, Task[Any]],
        models: Mapping[str, Answers],
        writer: Writer,
        tell: Callable[[Progress], None] | None,
        max_in_flight: int,
        budget: float | None,
    ) -> None:
        self.models, self.writer, self.tell, self.budget = models, writer, tell, budget
        self.identities = {name: identity(model) for name, model in models.items()}
        self.order = list(tasks)
        self.unstarted = list(reversed(list(tasks.items())))
        self.max_in_flight = max(1, max_in_flight, *(getattr(model, "at_once", 0) for model in models.values()))
        # models that wait for others get their first requests at once, while the rest is still being put together
        waits = all(getattr(model, "concurrent", False) for model in models.values())
        self.at_once = _FIRST if waits else self.max_in_flight
        self.open: dict[str, _Waiting] = {}
        self.entering: list[tuple[str, list[tuple[str, Request]]]] = []  # tasks with new requests, each with its model
        self.outcome: dict[str, Any] = {}
        self.answered: dict[Content, Call] = {}  # successes of this run
        self.awaited: dict[Content, list[_Place]] = {}  # asked or about to be, with all who wait for it
        self.queued: dict[str, list[Content]] = {}  # by model, not asked yet
        self.arrivals: queue.SimpleQueue[tuple[str, Content | None, Call | None, BaseException | None]] = (
            queue.SimpleQueue()
        )
        self.metered = any(hasattr(model, "prices") for model in models.values())
        self.over = ""  # why nothing more is asked
        self.threads = 0
        self.stopping = threading.Event()
        self.progress = Progress(len(tasks))

    def results(self) -> dict[str, Any]:
        try:
            while self.open or self.unstarted:
                room = min(self.max_in_flight - len(self.open), self.at_once)
                for _ in range(min(room, len(self.unstarted))):
                    task_id, task = self.unstarted.pop()
                    self.open[task_id] = _Waiting(task)
                    self._advance(task_id, None)
                self._enter()
                self._ask()
                if room == self.at_once and self.unstarted:
                    self.at_once *= 4
                    self._take(wait=False)
                elif self.threads and not self.entering:
                    self._take(wait=True)
        finally:
            self._stop()
        return {task_id: self.outcome[task_id] for task_id in self.order}

    # ------------------------------------------------------------------ tasks

    def _advance(self, task_id: str, calls: list[Call] | None) -> None:
        """Send calls into a task until it has new requests or ends."""
        waiting = self.open[task_id]
        while True:
            try:
                requests = next(waiting.task) if calls is None else waiting.task.send(calls)
                named = [(model_of(self.models, r), r) for r in requests]
            except StopIteration as stop:
                return self._close(task_id, stop.value)
            except Exception as error:  # noqa: BLE001 - a task is anyone's code; its failure is a value
                waiting.task.close()
                return self._close(task_id, Failure(task_id, f"{type(error).__name__}: {error}", error))
            if named:
                waiting.calls = [None] * len(named)
                waiting.missing = len(named)
                self.entering.append((task_id, named))
                return None
            calls = []

    def _enter(self) -> None:
        """Fill in what is known of new requests, with one look into the store for all of them; queue what is not."""
        while self.entering:
            entering, self.entering = self.entering, []
            asked: list[tuple[_Place, str, Content]] = []
            for task_id, named in entering:
                for at, (name, r) in enumerate(named):
                    content = request_digest(self.identities[name], r), r.key.sample
                    asked.append((_Place(task_id, at, r, call_id(r, content[0])), name, content))
            stored = self.writer.calls([place.id for place, _, _ in asked])
            for place, name, content in asked:
                self._enter_one(place, name, content, stored.get(place.id))
            for task_id, _ in entering:
                self._go_on(task_id)

    def _enter_one(self, place: _Place, name: str, content: Content, stored: Call | None) -> None:
        if stored is not None and stored.stop != "error":
            self.answered.setdefault(content, stored)
            self._fill(place, replace(stored, model=self.models[name].name), stored=1)
        elif content in self.answered:
            call = _as_asked(self.answered[content], place.request)
            self.writer.add(call, place.id)
            self._fill(place, call, shared=1)
        elif content in self.awaited:
            self.awaited[content].append(place)
        elif self.over:
            self._leave(place, name, content)
        else:
            self.awaited[content] = [place]
            self.queued.setdefault(name, []).append(content)

    def _leave(self, place: _Place, name: str, content: Content) -> None:
        """Answer a request that is not asked any more. Nothing is stored."""
        call = Call(place.request.key, content[0], self.models[name].name, stop="error", error=self.over)
        self._fill(place, call, unasked=1)

    def _go_on(self, task_id: str) -> None:
        """Advance a task whose list of calls is complete."""
        waiting = self.open[task_id]
        if waiting.missing == 0:
            self._advance(task_id, [call for call in waiting.calls if call is not None])

    def _fill(self, place: _Place, call: Call, **counts: float) -> None:
        waiting = self.open[place.task_id]
        waiting.calls[place.at] = call
        waiting.missing -= 1
        self._count(**counts)

    def _close(self, task_id: str, result: Any) -> None:
        self.outcome[task_id] = result
        del self.open[task_id]
        self._count(done=1)

    def _count(self, **counts: float) -> None:
        now = self.progress
        self.progress = replace(now, **{name: getattr(now, name) + count for name, count in counts.items()})
        if self.tell is not None:
            self.tell(self.progress)

    # ------------------------------------------------------------------ calls

    def _ask(self) -> None:
        """Ask the models for what is queued: those that wait from threads, then those that compute, right here."""
        queued, self.queued = self.queued, {}
        for name in sorted(queued, key=lambda n: not getattr(self.models[n], "concurrent", False)):
            batch = queued[name]
            if not getattr(self.models[name], "concurrent", False):
                self._receive_all(name, batch)
            elif self.threads < _BATCHES:
                self.threads += 1
                asked = [(content, self.awaited[content][0].request) for content in batch]
                threading.Thread(target=self._ask_in_thread, args=(name, asked), daemon=True).start()
            else:  # it grows until a batch has come back
                self.queued.setdefault(name, []).extend(batch)

    def _receive_all(self, name: str, batch: list[Content]) -> None:
        requests = {content: self.awaited[content][0].request for content in batch}
        by_key = {(request.key, content[0]): content for content, request in requests.items()}
        for call in self.models[name].answer(self._asked(requests.values())):
            content = by_key.pop((call.key, call.request), None)
            if content is not None:
                self._receive(content, call)
            self._take(wait=False)
        for content in by_key.values():
            self._lose(name, content)

    def _asked(self, requests: Iterable[Request]) -> Asked:
        return Asked(list(requests), lambda: not self.over)

    def _ask_in_thread(self, name: str, asked: list[tuple[Content, Request]]) -> None:
        by_key = {(request.key, content[0]): content for content, request in asked}
        problem: BaseException | None = None
        try:
            stream: Any = self.models[name].answer(self._asked(request for _, request in asked))
            for call in stream:
                content = by_key.pop((call.key, call.request), None)
                if content is not None:
                    self.arrivals.put((name, content, call, None))
                if self.stopping.is_set():
                    if hasattr(stream, "close"):
                        stream.close()
                    break
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            problem = error
        else:
            for content in by_key.values():
                self.arrivals.put((name, content, None, None))
        self.arrivals.put((name, None, None, problem))

    def _take(self, wait: bool) -> None:
        """Receive what has come from the threads; with ``wait`` at least one thing."""
        while self.threads and (wait or not self.arrivals.empty()):
            name, content, call, problem = self.arrivals.get()
            wait = False
            if content is None:
                self.threads -= 1
                if problem is not None:
                    raise problem
            elif call is not None:
                self._receive(content, call)
            else:
                self._lose(name, content)

    def _receive(self, content: Content, call: Call) -> None:
        places = self.awaited.pop(content)
        if call.stop != "error":
            self.answered[content] = call
        for k, place in enumerate(places):
            mine = call if k == 0 else _as_asked(call, place.request)
            self.writer.add(mine, place.id)
            asked, failed = int(k == 0), int(k == 0 and call.stop == "error")
            self._fill(place, mine, asked=asked, shared=1 - asked, failed=failed, spent=mine.price or 0.0)
        if self.budget is not None and not self.over:
            if self.progress.spent >= self.budget:
                self.over = f"the budget of {self.budget:g} US dollars is spent"
            elif call.price is None and call.prompt_tokens and call.stop != "error" and self.metered:
                self.over = f"{call.model} has no known price, so no budget can be kept; state it: ?input=..&output=.."
        for task_id in dict.fromkeys(place.task_id for place in places):
            self._go_on(task_id)

    def _lose(self, name: str, content: Content) -> None:
        """A model has not answered a request."""
        if self.over:
            for place in self.awaited[content]:
                self._leave(place, name, content)
            for task_id in dict.fromkeys(place.task_id for place in self.awaited.pop(content)):
                self._go_on(task_id)
        else:
            request, why = self.awaited[content][0].request, "no answer was given"
            self._receive(content, Call(request.key, content[0], self.models[name].name, stop="error", error=why))

    def _stop(self) -> None:
        """Close what is open; after an interrupt, keep the calls that are still arriving."""
        self.stopping.set()
        while self.threads:
            try:
                _, content, call, _ = self.arrivals.get(timeout=_GRACE)
            except queue.Empty:
                break
            if content is None:
                self.threads -= 1
            elif call is not None:
                self.writer.add(call)
        for waiting in self.open.values():
            waiting.task.close()


def _as_asked(call: Call, request: Request) -> Call:
    """The same answer to an equal request of another key; it cost nothing again."""
    return replace(call, key=request.key, price=None if call.price is None else 0.0, seconds=0.0)
