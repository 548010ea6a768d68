"""A model behind OpenAI's batch interface: requests go up as one file, answers come back within a day, at half price.

What has been handed in is noted under ``PIPPIN_HOME/batches`` before it is handed in: a process that is killed, or a
command that is run again the next morning, finds its batch and pays for nothing twice.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pippin.core.errors import ModelError
from pippin.core.run import home, write_json
from pippin.core.types import Call, Request, digest
from pippin.lm import endpoint as ep
from pippin.lm import prices as price_table
from pippin.lm.engine import request_digest

MOST_REQUESTS, MOST_BYTES = 50_000, 190_000_000  # of one batch
_DISCOUNT = 0.5  # of the listed prices
_POLL = 60.0  # seconds between two looks, at most
_FORGOTTEN = 30 * 86400.0  # seconds after which servers have deleted a batch's files
_JSON = "application/json"
_OVER = ("completed", "failed", "expired", "cancelled")


@dataclass
class _Record:
    """One batch as it is noted on the disk: ``batch`` is empty between upload and start."""

    file: Path
    asked: list[str]  # custom ids
    upload: str = ""
    batch: str = ""
    began: float = field(default_factory=time.time)

    def save(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        row = {"asked": self.asked, "upload": self.upload, "batch": self.batch, "began": self.began}
        write_json(self.file, row)


class Batch:
    """Answers requests through ``/files`` and ``/batches`` of an OpenAI-compatible server.

    Args:
        endpoint: the model and its server.
        timeout: seconds that one exchange with the server may take.
        deadline: seconds that the server may give no answer at all before the wait is given up; the batch goes on,
            and the same command finds it.
        poll: seconds between two looks at a batch, at first.
        prices: US dollars per million prompt and completion tokens; by default half of the listed ones.
        extra: further fields of every request's body.

    What a batch could not answer is a Call with ``stop="error"``, and is handed in anew the next time.
    """

    concurrent = True
    at_once = MOST_REQUESTS  # tasks that the engine may hold open: the more stand in one batch the better

    def __init__(
        self,
        endpoint: ep.Endpoint,
        *,
        timeout: float = 300.0,
        deadline: float = 900.0,
        poll: float = 5.0,
        prices: tuple[float, float] | None = None,
        extra: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        self.endpoint, self.timeout, self.deadline, self.poll = endpoint, timeout, deadline, poll
        listed = price_table.find(endpoint.model)
        self.prices = prices or (listed and (_DISCOUNT * listed[0], _DISCOUNT * listed[1]))
        self.extra = dict(extra or {})
        self.name = endpoint.name
        more = f"#{digest(self.extra)}" if self.extra else ""
        self.identity = f"openai/{endpoint.model}@{endpoint.base_url}{more}"
        self.unsupported: frozenset[str] = frozenset()

    def answer(self, requests: Sequence[Request]) -> Iterator[Call]:
        """Calls, batch by batch as they are done.

        Raises:
            InputError: the key's variable is not set.
        """
        wanted = {self._custom_id(request): request for request in requests}
        try:
            records = [record for record in self._records() if not wanted.keys().isdisjoint(record.asked)]
            known = {name for record in records for name in record.asked}
            records += self._handed_in({name: r for name, r in wanted.items() if name not in known})
            for record in records:
                mine = {name: wanted[name] for name in record.asked if name in wanted}
                for call in self._answers(record, mine):
                    del wanted[f"{call.request}-{call.key.sample}"]
                    yield call
        except ModelError as error:
            problem = ep.redacted(str(error), self.endpoint.key())
        else:
            problem = "the batch has no answer to it"
        for request in wanted.values():
            yield self._failed(request, problem)

    # ------------------------------------------------------------------ batches

    def _custom_id(self, request: Request) -> str:
        return f"{request_digest(self.identity, request)}-{request.key.sample}"

    @property
    def _folder(self) -> Path:
        return home() / "batches" / digest(self.identity)

    def _records(self) -> list[_Record]:
        """The batches of this model that are noted, oldest first; those whose files are gone are forgotten."""
        found = []
        for file in self._folder.glob("*.json") if self._folder.is_dir() else ():
            record = _Record(file, **json.loads(file.read_text()))
            if time.time() - record.began > _FORGOTTEN or not record.asked:
                file.unlink(missing_ok=True)
            else:
                found.append(record)
        return sorted(found, key=lambda record: record.began)

    def _handed_in(self, requests: Mapping[str, Request]) -> list[_Record]:
        lines: list[tuple[str, bytes]] = []
        for name, request in requests.items():
            body = ep.body(self.endpoint, request, self.extra, self.unsupported)
            line = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}
            lines.append((name, json.dumps(line).encode() + b"\n"))
        records = []
        while lines:
            size = count = 0
            while count < min(len(lines), MOST_REQUESTS) and (not count or size + len(lines[count][1]) <= MOST_BYTES):
                size += len(lines[count][1])
                count += 1
            part, lines = lines[:count], lines[count:]
            asked = [name for name, _ in part]
            record = _Record(self._folder / f"{digest([asked, time.time()])}.json", asked)
            record.upload = self._upload(b"".join(line for _, line in part))
            record.save()
            self._start(record)
            records.append(record)
        return records

    def _upload(self, content: bytes) -> str:
        boundary = "pippin-" + digest([len(content), time.time()], 32)
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--{boundary}\r\n'
            'Content-Disposition: form-data; name="file"; filename="batch.jsonl"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        )
        body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        return self._json("POST", "/files", body, f"multipart/form-data; boundary={boundary}")["id"]

    def _start(self, record: _Record) -> None:
        """Start the batch of an uploaded file; once, also where a process was killed while it did."""
        listed = self._json("GET", "/batches?limit=100").get("data") or [] if record.began < time.time() - 1 else []
        found = next((b["id"] for b in listed if b.get("input_file_id") == record.upload), "")
        if not found:
            order = {"input_file_id": record.upload, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            found = self._json("POST", "/batches", json.dumps(order).encode())["id"]
        record.batch = found
        record.save()

    def _answers(self, record: _Record, mine: Mapping[str, Request]) -> Iterator[Call]:
        """The calls of one batch, once it is over. What it did not answer is taken off the record."""
        if not record.batch:
            self._start(record)
        pause = self.poll
        while (state := self._json("GET", f"/batches/{record.batch}")).get("status") not in _OVER:
            time.sleep(pause)
            pause = min(max(_POLL, self.poll), 1.5 * pause)
        answered: set[str] = set()
        problems = {e.get("message", "") for e in (state.get("errors") or {}).get("data") or []}
        for name in ("output_file_id", "error_file_id"):
            content = self._exchange("GET", f"/files/{state[name]}/content") if state.get(name) else b""
            for line in content.splitlines():
                row = json.loads(line) if line.strip() else {}
                request = mine.get(row.get("custom_id", ""))
                if request is not None and row["custom_id"] not in answered:
                    call = self._call(request, row)
                    answered.add(row["custom_id"])
                    if call.stop == "error":
                        record.asked.remove(row["custom_id"])
                    yield call
        for name, request in mine.items():
            if name not in answered:
                record.asked.remove(name)
                yield self._failed(request, f"the batch is {state['status']}: {'; '.join(problems) or 'no answer'}")
        record.save()

    def _call(self, request: Request, row: Mapping[str, Any]) -> Call:
        response = row.get("response") or {}
        body = response.get("body") or {}
        problem = row.get("error") or (body.get("error") if isinstance(body, dict) else None)
        if response.get("status_code", 200) != 200 or problem:
            told = problem.get("message", "") if isinstance(problem, dict) else str(problem or "")
            return self._failed(request, f"HTTP {response.get('status_code', '')}: {told}")
        try:
            fields = ep.answer_fields(body, request, self.prices)
        except ValueError as error:
            return self._failed(request, f"broken answer: {error}")
        fields.pop("has_logprobs")
        return Call(request.key, request_digest(self.identity, request), self.name, **fields)

    def _failed(self, request: Request, why: str) -> Call:
        why = ep.redacted(why, self.endpoint.key())
        return Call(request.key, request_digest(self.identity, request), self.name, stop="error", error=why)

    # ------------------------------------------------------------------ the wire

    def _json(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
    ) -> dict[str, Any]:
        content = self._exchange(method, path, body, kind)
        try:
            reply = json.loads(content)
        except ValueError:
            reply = None
        if not isinstance(reply, dict) or (method == "POST" and "id" not in reply):
            raise ModelError(f"broken answer of {self.endpoint.base_url}{path}: {content[:200]!r}", permanent=False)
        return reply

    def _exchange(self, method: str, path: str, body: bytes | None = None, kind: str = _JSON) -> bytes:
        """One exchange, tried again while that can help and the deadline has not passed. The start of a batch is not,
        where it may have arrived: the next run looks for it."""
        key, began, attempt = self.endpoint.key(), time.monotonic(), 0
        headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {key}"} if key else {})
        while True:
            request = urllib.request.Request(f"{self.endpoint.base_url}{path}", body, headers, method=method)
            told: Mapping[str, str] = {}
            try:
                with _OPENER.open(request, timeout=self.timeout) as answer:
                    return answer.read()
            except urllib.error.HTTPError as error:
                told = {name.lower(): value for name, value in error.headers.items()}
                problem = f"HTTP {error.code}: {error.read()[:200].decode('utf-8', 'replace')}"
                final = ep.permanent(error.code, told)
            except (OSError, ValueError) as error:
                problem = f"cannot reach {self.endpoint.base_url}: {error}"
                final = isinstance(error, ValueError) or (method, path) == ("POST", "/batches")
            pause = ep.delay(attempt, told, 0.0)
            if final or time.monotonic() - began + pause >= self.deadline:
                raise ModelError(ep.redacted(problem, key), permanent=final) from None
            attempt += 1
            time.sleep(pause)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key goes to the server that was named, and to no other."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)
