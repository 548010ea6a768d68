"""A client for OpenAI-compatible servers: hosted ones, vLLM, SGLang, llama.cpp, TGI.

Plain HTTP over aiohttp: one core keeps thousands of calls a second going. The event loop runs in a thread of its own
and shows nothing of itself: :meth:`Api.answer` is an ordinary iterator, and may be used by several threads at once.
One gate per model and server, shared by all of them: see :mod:`pippin.lm.gate`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import math
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson

from pippin.core.types import Call, Request, digest
from pippin.lm import endpoint as ep
from pippin.lm import prices as price_table
from pippin.lm.engine import request_digest
from pippin.lm.gate import Gate, Ticket
from pippin.lm.limits import Concurrency, Pace

UNREACHED_TRIES = 3  # waits of about four seconds in all, before a server that never answered is given up
_CONNECT = 30.0  # seconds for a connection
_CHARACTERS = 4  # of a token, about


_CONNECTIONS, _START, _START_KNOWN = 100, 32.0, 64.0


class Api:
    """A model behind an OpenAI-compatible server.

    Args:
        endpoint: the model and its server.
        max_connections: most requests under way at once, 100 if not given. Who gives it knows the server: it starts
            with as many (at most 64), else with 32.
        timeout: seconds that one try may take.
        deadline: seconds that one request may take with all its tries and pauses; also how long a server may give no
            answer at all before what is left is given up.
        rpm, tpm: requests and tokens per minute that are not to be exceeded.
        prices: US dollars per million prompt and completion tokens, for servers that state no cost; by default those
            of :mod:`pippin.lm.prices`.
        extra: further fields of every request's body (``reasoning_effort``, say).

    A request that fails is a Call with ``stop="error"``. Refusals of a request (4xx other than 408, 409, 429) are
    permanent for that request only. The key is read from the environment at use, and is in no record and no message.

    Attributes:
        gives_logprobs: whether the model gives log-probabilities; None until it was asked for some.
    """

    concurrent = True

    def __init__(
        self,
        endpoint: ep.Endpoint,
        *,
        max_connections: int | None = None,
        timeout: float = 300.0,
        deadline: float = 900.0,
        rpm: float = math.inf,
        tpm: float = math.inf,
        prices: tuple[float, float] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.endpoint, self.timeout, self.deadline = endpoint, timeout, deadline
        self.prices = price_table.find(endpoint.model) if prices is None else prices
        self.extra = dict(extra or {})
        self.name = endpoint.name
        more = f"#{digest(self.extra)}" if self.extra else ""
        self.identity = f"openai/{endpoint.model}@{endpoint.base_url}{more}"
        most = max_connections or _CONNECTIONS
        first = _START if max_connections is None else _START_KNOWN
        concurrency = Concurrency(min(first, most), min(4, most), most)
        self.gate = Gate(concurrency, Pace(rpm / 60.0, tpm / 60.0))
        self.reached = False  # has the server ever answered
        self.retries = 0  # tries beyond the first, of all requests
        self.unsupported: frozenset[str] = frozenset()  # parameters that this model was found not to take
        self.gives_logprobs: bool | None = None
        self._unreachable = False
        self._line: _Line | None = None
        self._lock = threading.Lock()

    def answer(self, requests: Sequence[Request]) -> Iterator[Call]:
        """Calls as they come. Requests for which ``requests.wanted()`` (:class:`pippin.lm.engine.Batch`) has become
        False before they are under way are left out.

        Raises:
            InputError: the key's variable is not set.
        """
        key = self.endpoint.key()
        arrivals: queue.SimpleQueue[Call | BaseException | None] = queue.SimpleQueue()
        line = self._running()
        work = asyncio.run_coroutine_threadsafe(self._answer_all(line, requests, key, arrivals.put), line.loop)

        def ended(work: concurrent.futures.Future[None]) -> None:
            arrivals.put(None if work.cancelled() else work.exception())

        work.add_done_callback(ended)
        try:
            while (arrived := arrivals.get()) is not None:
                if isinstance(arrived, BaseException):
                    raise arrived
                yield arrived
        finally:
            work.cancel()

    def close(self) -> None:
        """Close the connections and end the thread. The next use starts anew."""
        with self._lock:
            line, self._line = self._line, None
        if line is not None:
            line.end()

    # ------------------------------------------------------------------ inside the loop's thread

    def _running(self) -> _Line:
        with self._lock:
            if self._line is None:
                self._line = _Line(self.name, self.endpoint.base_url)
                # an open session would be complained about on standard error when it goes
                weakref.finalize(self, self._line.end)
            return self._line

    async def _answer_all(self, line: _Line, requests: Sequence[Request], key: str, deliver: Any) -> None:
        session = line.open()
        self.gate.begin()
        self._unreachable = self._unreachable and self.gate.active > 0
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        wanted, rest = getattr(requests, "wanted", _always), iter(requests)

        async def work() -> None:
            for request in rest:
                call = await self._answer(session, request, key, headers, wanted)
                if call is not None:
                    deliver(call)

        highest = self.gate.concurrency.highest
        workers = [asyncio.ensure_future(work()) for _ in range(min(highest, len(requests)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()

    async def _answer(
        self,
        session: aiohttp.ClientSession,
        request: Request,
        key: str,
        headers: Mapping[str, str],
        wanted: Callable[[], bool],
    ) -> Call | None:
        asked = request_digest(self.identity, request)
        tokens = sum(len(m.content) for m in request.messages) / _CHARACTERS + request.sampling.max_tokens
        began = spent = 0.0  # the time spent waiting for a turn does not count
        attempt = 0
        while True:
            if not (began or wanted()):
                return None
            ticket = await self.gate.enter(tokens, again=attempt > 0)
            try:
                if not (began or wanted()):
                    self.gate.pace.cancelled()
                    return None
                began = began or ticket.at
                seconds = min(self.timeout, self.deadline - spent)
                problem = await self._try(session, request, headers, ticket, seconds)
            finally:
                self.gate.leave()
            now = time.monotonic()
            if isinstance(problem, dict):
                return Call(request.key, asked, self.name, seconds=now - began, **problem)
            if problem.mended:
                continue
            spent += now - ticket.at
            pause = ep.delay(attempt, problem.headers, int(digest([asked, request.key.sample, attempt], 8), 16) / 16**8)
            if problem.permanent or self._give_up(problem, attempt, spent + pause, now):
                late = "" if problem.permanent else f" (gave up after {attempt + 1} tries, {now - began:.0f} s)"
                text = ep.redacted(problem.what, key) + late
                return Call(request.key, asked, self.name, stop="error", error=text, seconds=now - began)
            attempt += 1
            self.retries += 1
            spent += pause
            await self.gate.sleep(pause, fixed=ep.retry_after(problem.headers) is not None)

    def _give_up(self, problem: _Problem, attempt: int, spent: float, now: float) -> bool:
        if problem.unreached and not self.reached:
            # a server that has never answered is more likely a wrong address than a short pause
            self._unreachable = self._unreachable or attempt >= UNREACHED_TRIES
            if self._unreachable:
                return True
        return spent >= self.deadline or (self.gate.failing > 0 and now - self.gate.answered_at >= self.deadline)

    async def _try(
        self,
        session: aiohttp.ClientSession,
        request: Request,
        headers: Mapping[str, str],
        ticket: Ticket,
        seconds: float,
    ) -> dict[str, Any] | _Problem:
        """One exchange with the server: the fields of a Call, or what went wrong."""
        sent = ep.body(self.endpoint, request, self.extra, self.unsupported)
        limit = aiohttp.ClientTimeout(total=max(0.001, seconds), sock_connect=_CONNECT)
        try:
            async with session.post(
                f"{self.endpoint.base_url}/chat/completions", data=_encoded(sent), headers=headers, timeout=limit,
                allow_redirects=False,
            ) as response:  # fmt: skip
                self.reached = True
                content = await response.read()
        except TimeoutError:
            self.gate.overloaded(ticket)
            return _Problem("no answer in time")
        except aiohttp.InvalidURL:
            self.gate.overloaded(ticket)
            return _Problem(f"not a server's address: {self.endpoint.base_url}", permanent=True)
        except aiohttp.ClientConnectorError as error:
            self.gate.overloaded(ticket)
            return _Problem(f"cannot connect to {self.endpoint.base_url}: {error}", unreached=True)
        except (aiohttp.ClientError, OSError) as error:
            self.gate.overloaded(ticket)
            return _Problem(f"{type(error).__name__}: {error}")
        except BaseException:
            self.gate.pace.cancelled()
            raise
        return self._read(request, response, content, sent, ticket)

    def _read(
        self,
        request: Request,
        response: aiohttp.ClientResponse,
        content: bytes,
        sent: Mapping[str, Any],
        ticket: Ticket,
    ) -> dict[str, Any] | _Problem:
        now, status, headers = time.monotonic(), response.status, response.headers
        try:
            reply = orjson.loads(content)
        except orjson.JSONDecodeError:
            reply = None
        problem = reply.get("error") if isinstance(reply, dict) else None
        if "x-ratelimit-limit-requests" in headers or "x-ratelimit-limit-tokens" in headers:
            self.gate.pace.told(headers, self.gate.active - 1, now)
        if status == 200 and not problem:
            try:
                fields = ep.answer_fields(reply, request, self.prices)
            except ValueError as error:
                self.gate.other(now, failed=True)
                said = content[:200].decode("utf-8", "replace") if reply is None else str(error)
                return _Problem(f"broken answer: {said}", headers=headers)
            self.gate.good(ticket, now)
            self._learn(request, fields, ticket)
            return fields
        told = problem.get("message", "") if isinstance(problem, dict) else str(problem or "")
        told = f"HTTP {status}: {told or content[:200].decode('utf-8', 'replace')}"
        if ep.no_money(status, problem):
            self.gate.other(now, failed=False)
            return _Problem(told, permanent=True)
        if status == 429:
            self.gate.too_fast(ticket, now, ep.bounded(ep.retry_after(headers)))
        elif status in ep.OVERLOADED:
            self.gate.overloaded(ticket)
        else:
            self.gate.other(now, failed=status >= 500)
        parameter = ep.unsupported_parameter(status, told, sent)
        if parameter:
            self.unsupported |= {"logprobs", "top_logprobs"} if parameter.endswith("logprobs") else {parameter}
            self.gives_logprobs = False if "logprobs" in self.unsupported else self.gives_logprobs
        # an error inside a reply of status 200 (routers do this) may pass
        final = status != 200 and ep.permanent(status, headers)
        return _Problem(told, headers=headers, permanent=final, mended=bool(parameter))

    def _learn(self, request: Request, fields: dict[str, Any], ticket: Ticket) -> None:
        """Keep what an answer shows of the model: the tokens that it takes, whether it gives log-probabilities."""
        used = (fields["prompt_tokens"] or 0) + (fields["completion_tokens"] or 0)
        if used:
            self.gate.pace.used(ticket.tokens, used)
        if request.labels and not self.gives_logprobs and fields["text"]:
            self.gives_logprobs = fields.pop("has_logprobs")
        fields.pop("has_logprobs", None)


@dataclass(frozen=True)
class _Problem:
    """No answer came of one try. ``mended``: the request was changed; try again at once."""

    what: str
    headers: Mapping[str, str] = field(default_factory=dict)
    permanent: bool = False
    mended: bool = False
    unreached: bool = False


class _Line:
    """An event loop in a thread of its own, and its connections to one server."""

    def __init__(self, name: str, url: str) -> None:
        self.loop, self.url = asyncio.new_event_loop(), url
        self.session: aiohttp.ClientSession | None = None
        self.thread = threading.Thread(target=self._run, daemon=True, name=name)
        self.thread.start()

    def open(self) -> aiohttp.ClientSession:
        """The session, made inside the loop."""
        if self.session is None:
            # the library's own cap of 100 connections would be a second limiter
            self.session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), proxy=_proxy(self.url)
            )
        return self.session

    def end(self) -> None:
        """Close the connections and end the thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(lambda: self.loop.create_task(self._close()))
            if threading.current_thread() is not self.thread:
                self.thread.join(timeout=5)

    async def _close(self) -> None:
        if self.session is not None:
            await self.session.close()
        self.loop.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()


def _always() -> bool:
    return True


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # lone surrogates, which hostile text may hold
        return json.dumps(body).encode()


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for this address."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
