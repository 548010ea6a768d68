"""A model that answers from recorded calls, without network or weights: ``replay/PATH``.

A recording is a JSON-lines file of :class:`~pippin.core.types.Call` rows, as ``pippin store --export`` writes them. A
request is answered by the row with its key (subject, role, order, turn, sample); where no row has it, by a row of equal
content: one whose optional ``messages`` (and the sample) are the request's, or whose request hash is the request's for
one of the recorded models. A request without a recording is an error call: nothing is made up.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pippin.core.errors import InputError
from pippin.core.run import file_digest
from pippin.core.types import Call, Key, Message, Messages, Request, digest, from_row
from pippin.lm.engine import request_digest


class Replay:
    """Answers from the recordings in ``path``: a JSON-lines file, or a folder of them.

    Raises:
        InputError: no such file; or a line is not a Call, with its number.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path).expanduser()
        files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not files or not files[0].is_file():
            raise InputError("no recordings", where=str(path), expected="a .jsonl file of calls, or a folder of them")
        self.name = f"replay/{path}"
        self.identity = f"replay/{digest([file_digest(file) for file in files])}"
        self._by_key: dict[Key, Call] = {}
        self._by_content: dict[tuple[str, int], Call] = {}
        self._models: dict[str, None] = {}
        for file in files:
            self._read(file)

    def __len__(self) -> int:
        return len(self._by_key)

    def answer(self, requests: Sequence[Request]) -> Iterator[Call]:
        for request in requests:
            asked = request_digest(self.identity, request)
            found = self.find(request)
            if found is None:
                yield Call(request.key, asked, self.name, stop="error", error=f"no recording of {_named(request.key)}")
            else:
                served = found.served_model or found.model
                yield replace(found, key=request.key, request=asked, model=self.name, served_model=served)

    def find(self, request: Request) -> Call | None:
        """The recorded call that answers ``request``, as it was recorded."""
        found = self._by_key.get(request.key)
        if found is not None:
            return found
        sample = request.key.sample
        contents = [_content(request.messages), *(request_digest(model, request) for model in self._models)]
        return next((self._by_content[c, sample] for c in contents if (c, sample) in self._by_content), None)

    def _read(self, file: Path) -> None:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    self._enter(line, f"{file}:{number}")

    def _enter(self, line: str, where: str) -> None:
        try:
            row: Any = json.loads(line)
        except ValueError as error:
            raise InputError("not JSON", where=where, found=str(error)) from None
        if not isinstance(row, dict):
            raise InputError("not a call", where=where, found=row, expected="a JSON object")
        messages = row.pop("messages", None)
        call = from_row(Call, row, where=where)
        if call.stop == "error" and call.key in self._by_key:
            return
        self._by_key[call.key] = call
        self._models[call.model] = None
        self._by_content[call.request, call.key.sample] = call
        if messages is not None:
            self._by_content[_content(_messages(messages, where)), call.key.sample] = call


def _content(messages: Messages) -> str:
    return digest(["content", [[m.role, m.content] for m in messages]])


def _messages(rows: Any, where: str) -> Messages:
    if not isinstance(rows, list) or not all(isinstance(r, Mapping) for r in rows):
        raise InputError("messages must be a list of objects with role and content", where=where, found=rows)
    return tuple(from_row(Message, r, where=where) for r in rows)


def _named(key: Key) -> str:
    order = f", order {key.order}" if key.order else ""
    return f"subject {key.subject}, role {key.role}{order}, turn {key.turn}, sample {key.sample}"
