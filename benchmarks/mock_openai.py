"""An OpenAI-compatible server that answers one fixed text as fast as a Python process can, for benchmarks of clients.

    python benchmarks/mock_openai.py [--text "(a)"] [--latency 0.2] [--limit 20] [--overload 3,5]

Prints its port. ``GET /stats`` gives what it has seen: requests admitted and refused, the most under way at once, and
the requests admitted in every second since the first one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import time
from collections import Counter
from urllib.request import urlopen

OVERLOADED = b'{"error": {"message": "overloaded", "type": "server_error"}}'
TOO_FAST = b'{"error": {"message": "Rate limit reached for requests", "type": "requests"}}'


def reply(text: str) -> bytes:
    """A chat completion of one token, with the alternatives that judges ask for."""
    top = [
        {"token": t, "bytes": None, "logprob": p} for t, p in ((text, -0.1), ("m", -0.2), ("M", -1.7), ("The", -5.0))
    ]
    logprobs = {"content": [{**top[0], "top_logprobs": top}], "refusal": None}
    message = {"role": "assistant", "content": text, "refusal": None}
    usage = {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}
    choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "mock-1"}
    return json.dumps({**head, "choices": [choice], "usage": usage}).encode()


class Mock:
    """What the server does with a request, and what it has seen."""

    def __init__(self, text: str, latency: float, limit: float, window: bool, overload: tuple[float, float]) -> None:
        self.answer, self.latency, self.limit, self.window, self.overload = (
            reply(text),
            latency,
            limit,
            window,
            overload,
        )
        self.began, self.tokens, self.last = 0.0, limit, 0.0
        self.active = self.most_active = self.admitted = self.refused = 0
        self.seconds: Counter[int] = Counter()

    def decide(self) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers for a request that arrives now."""
        now = time.monotonic()
        self.began = self.began or now
        since = now - self.began
        if self.overload[0] <= since < self.overload[1]:
            self.refused += 1
            return 503, OVERLOADED, {}
        if self.limit:
            wait = self._wait(now)
            if wait > 0:
                self.refused += 1
                return 429, TOO_FAST, {"Retry-After": str(math.ceil(wait))}
        self.admitted += 1
        self.seconds[int(since)] += 1
        return 200, self.answer, {}

    def _wait(self, now: float) -> float:
        """0 for a request that the limit admits, else seconds until one is admitted."""
        if self.window:
            if now - self.last >= 1:
                self.tokens, self.last = self.limit, now
            wait = self.last + 1 - now
        else:
            self.tokens = min(self.limit, self.tokens + (now - (self.last or now)) * self.limit)
            self.last = now
            wait = (1 - self.tokens) / self.limit
        if self.tokens < 1:
            return max(wait, 1e-9)
        self.tokens -= 1
        return 0.0

    def stats(self) -> bytes:
        last = max(self.seconds, default=-1)
        by_second = [self.seconds[k] for k in range(last + 1)]
        return json.dumps(
            {
                "admitted": self.admitted,
                "refused": self.refused,
                "most_active": self.most_active,
                "by_second": by_second,
            }
        ).encode()


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as much of it as clients of such a server use."""

    def __init__(self, mock: Mock) -> None:
        self.mock, self.buffer, self.loop = mock, b"", asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            if head.startswith(b"get"):
                self.send(200, self.mock.stats(), {})
                continue
            status, body, headers = self.mock.decide()
            self.mock.active += 1
            self.mock.most_active = max(self.mock.most_active, self.mock.active)
            if self.mock.latency and status == 200:
                self.loop.call_later(self.mock.latency, self.done, status, body, headers)
            else:
                self.done(status, body, headers)

    def done(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.mock.active -= 1
        self.send(status, body, headers)

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(head.encode() + body)


def stats(port: int) -> dict[str, object]:
    """What the server at ``port`` has seen."""
    with urlopen(f"http://127.0.0.1:{port}/stats") as answer:
        return json.loads(answer.read())


async def serve(mock: Mock) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(mock), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--text", default="(a)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before an answer")
    parser.add_argument(
        "--limit", type=float, default=0.0, help="requests admitted per second; 429 and Retry-After beyond"
    )
    parser.add_argument(
        "--window", action="store_true", help="the limit counts in windows of a second, not in a bucket"
    )
    parser.add_argument("--overload", default="0,0", help="503 from, to: seconds after the first request")
    arguments = parser.parse_args()
    low, high = map(float, arguments.overload.split(","))
    asyncio.run(serve(Mock(arguments.text, arguments.latency, arguments.limit, arguments.window, (low, high))))


if __name__ == "__main__":
    main()
