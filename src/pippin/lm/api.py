"""A client for OpenAI-compatible servers: hosted ones, vLLM, SGLang, llama.cpp, TGI.

Plain HTTP over aiohttp: one core keeps thousands of calls a second going. The event loop runs in a thread of its own
and shows nothing of itself: :meth:`Api.answer` is an ordinary iterator, and may be used by several threads at once.
One limiter per model and server, shared by all of them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import orjson

from pippin.core.errors import ModelError
from pippin.core.types import Call, Request, digest
from pippin.lm import endpoint as ep
from pippin.lm.engine import request_digest

UNREACHED_TRIES = 3  # waits of about four seconds in all, before a server that never answered is given up


@dataclass
class Limiter:
    """How many requests may be under way at once. Starts at 20, doubles while all goes well, halves when told to slow
    down, and creeps up by one per round after that. Used by one event loop."""

    limit: float = 20.0
    lowest: int = 4
    highest: int = 100
    active: int = 0
    slowed: bool = False
    _since: int = 0
    _waiters: deque[asyncio.Future[None]] = field(default_factory=deque)

    async def acquire(self) -> None:
        while self.active >= int(self.limit):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                self._wake()  # the turn that this one may have been given goes to the next
                raise
        self.active += 1

    def release(self) -> None:
        self.active -= 1
        self._wake()

    def _wake(self) -> None:
        free = int(self.limit) - self.active
        while self._waiters and free > 0:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1

    def went_well(self) -> None:
        self.limit = min(self.highest, self.limit + (1.0 / self.limit if self.slowed else 1.0))
        self._since += 1

    def too_fast(self) -> None:
        """One episode counts once: requests already under way will be refused as well."""
        if not self.slowed or self._since >= self.active:
            self.limit, self.slowed, self._since = max(self.lowest, self.limit / 2), True, 0


class Api:
    """A model behind an OpenAI-compatible server.

    Args:
        endpoint: the model and its server.
        max_connections: most requests under way at once.
        timeout: seconds that one try may take.
        deadline: seconds that one request may take with all its tries.
        prices: US dollars per million prompt and completion tokens, for servers that state no cost.
        extra: further fields of every request's body (``reasoning_effort``, say).

    A request that fails is a Call with ``stop="error"``. Refusals of a request (4xx other than 408, 409, 429) are
    permanent for that request only. The key is read from the environment at use, and is in no record and no message.
    """

    concurrent = True

    def __init__(
        self,
        endpoint: ep.Endpoint,
        *,
        max_connections: int = 100,
        timeout: float = 300.0,
        deadline: float = 900.0,
        prices: tuple[float, float] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.endpoint, self.timeout, self.deadline, self.prices = endpoint, timeout, deadline, prices
        self.extra = dict(extra or {})
        self.name = endpoint.name
        more = f"#{digest(self.extra)}" if self.extra else ""
        self.identity = f"openai/{endpoint.model}@{endpoint.base_url}{more}"
        self.limiter = Limiter(min(20.0, max_connections), min(4, max_connections), max_connections)
        self.reached = False  # has the server ever answered
        self.retries = 0  # tries beyond the first, of all requests
        self.unsupported: frozenset[str] = frozenset()  # parameters that this model was found not to take
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None
        self._lock = threading.Lock()

    def answer(self, requests: Sequence[Request]) -> Iterator[Call]:
        """Calls as they come.

        Raises:
            InputError: the key's variable is not set.
        """
        key = self.endpoint.key()
        arrivals: queue.SimpleQueue[Call | BaseException] = queue.SimpleQueue()
        work = asyncio.run_coroutine_threadsafe(self._answer_all(requests, key, arrivals.put), self._running_loop())

        def ended(work: concurrent.futures.Future[None]) -> None:
            problem = None if work.cancelled() else work.exception()
            if problem is not None:
                arrivals.put(problem)

        work.add_done_callback(ended)
        try:
            for _ in requests:
                arrived = arrivals.get()
                if isinstance(arrived, BaseException):
                    raise arrived
                yield arrived
        finally:
            work.cancel()

    def close(self) -> None:
        """Close the connections and end the thread. The next use starts anew."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._close_session(), loop).result(timeout=5)
            loop.call_soon_threadsafe(loop.stop)

    # ------------------------------------------------------------------ inside the loop's thread

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run_loop, args=(self._loop,), daemon=True, name=f"{self.name}").start()
            return self._loop

    async def _close_session(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _answer_all(self, requests: Sequence[Request], key: str, deliver: Any) -> None:
        if self._session is None or self._session.closed:
            # the library's own cap of 100 connections would be a second limiter
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=True)
        rest = iter(requests)

        async def work() -> None:
            for request in rest:
                deliver(await self._answer(request, key))

        workers = [asyncio.ensure_future(work()) for _ in range(min(self.limiter.highest, len(requests)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()

    async def _answer(self, request: Request, key: str) -> Call:
        call = Call(request.key, request_digest(self.identity, request), self.name)
        began = time.monotonic()
        attempt = 0
        while True:
            headers: Mapping[str, str] = {}
            hopeless = False
            await self.limiter.acquire()
            try:
                left = self.deadline - (time.monotonic() - began)
                fields, headers = await self._try(request, key, max(0.001, min(self.timeout, left)))
                self.limiter.went_well()
                return replace(call, seconds=time.monotonic() - began, **fields)
            except _Refused as refused:
                problem, headers = refused, refused.headers
                if refused.mended:
                    continue
            except TimeoutError:
                problem = ModelError("no answer in time", permanent=False)
            except aiohttp.ClientConnectorError as error:
                # a server that has never answered is more likely a wrong address than a short pause
                hopeless = not self.reached and attempt >= UNREACHED_TRIES
                problem = ModelError(f"cannot connect to {self.endpoint.base_url}: {error}", permanent=False)
            except (aiohttp.ClientError, OSError) as error:
                problem = ModelError(f"{type(error).__name__}: {error}", permanent=False)
            finally:
                self.limiter.release()
            chance = int(digest([call.request, request.key.sample, attempt], 8), 16) / 16**8
            pause = ep.delay(attempt, headers, chance)
            waited = time.monotonic() - began
            if problem.permanent or hopeless or waited + pause >= self.deadline:
                late = "" if problem.permanent else f" (gave up after {attempt + 1} tries, {waited:.0f} s)"
                return replace(call, stop="error", error=ep.redacted(str(problem), key) + late, seconds=waited)
            attempt += 1
            self.retries += 1
            await asyncio.sleep(pause)

    async def _try(self, request: Request, key: str, seconds: float) -> tuple[dict[str, Any], Mapping[str, str]]:
        """One exchange with the server."""
        assert self._session is not None
        sent = ep.body(self.endpoint, request, self.extra, self.unsupported)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        async with self._session.post(
            f"{self.endpoint.base_url}/chat/completions", data=orjson.dumps(sent), headers=headers,
            timeout=aiohttp.ClientTimeout(total=seconds), allow_redirects=False,
        ) as response:  # fmt: skip
            self.reached = True
            content = await response.read()
        if response.status == 429:
            self.limiter.too_fast()
        try:
            reply = orjson.loads(content)
        except orjson.JSONDecodeError:
            reply = None
        problem = reply.get("error") if isinstance(reply, dict) else None
        if response.status != 200 or problem:
            told = problem.get("message", "") if isinstance(problem, dict) else str(problem or "")
            raise self._refused(response, told or content[:200].decode("utf-8", "replace"), sent)
        try:
            return ep.answer_fields(reply, request, self.prices), response.headers
        except ValueError as error:
            said = content[:200].decode("utf-8", "replace") if reply is None else str(error)
            raise _Refused(f"broken answer: {said}", False, response.headers) from None

    def _refused(self, response: aiohttp.ClientResponse, told: str, sent: Mapping[str, Any]) -> _Refused:
        parameter = ep.unsupported_parameter(response.status, told, sent)
        if parameter:
            self.unsupported |= {"logprobs", "top_logprobs"} if parameter.endswith("logprobs") else {parameter}
        # an error inside a reply of status 200 (routers do this) may pass
        final = response.status != 200 and ep.permanent(response.status, response.headers)
        return _Refused(f"HTTP {response.status}: {told}", final, response.headers, mended=bool(parameter))


class _Refused(ModelError):
    """The server's answer is no answer. ``mended``: the request was changed; try again at once."""

    def __init__(self, message: str, permanent: bool, headers: Mapping[str, str], mended: bool = False) -> None:
        super().__init__(message, permanent=permanent)
        self.headers, self.mended = headers, mended


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()
