"""A model that answers from a script: a Python function or a list of texts.

For trying a strategy or a recipe without a model, for demonstrations, and for running a whole study offline. By name:
``scripted/FILE.py:function`` or ``scripted/FILE.jsonl`` (one JSON string a line, used in order).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pippin.core.errors import InputError
from pippin.core.functions import load_function
from pippin.core.run import file_digest
from pippin.core.types import Call, Request, digest
from pippin.lm.engine import request_digest

Said = str | Mapping[str, float]
Script = Callable[[Request], Said]


class Scripted:
    """Answers by ``script``.

    Args:
        script: a function of a request that returns a text, or a mapping of labels to log-probabilities (the text is
            then the most likely label); or a list of texts, used one a request in the order asked. A function that
            raises, and a list at its end, give an error call.
        name: of the model. Stored calls are found by it: give another name to a function that answers differently.
    """

    def __init__(self, script: Script | Sequence[str], name: str = "scripted") -> None:
        self.name = name
        self.identity = name if callable(script) else f"{name}#{digest(list(script))}"
        self.script = script if callable(script) else _in_order(script)
        self.asked = 0  # requests answered so far

    def answer(self, requests: Sequence[Request]) -> Iterator[Call]:
        for request in requests:
            self.asked += 1
            call = Call(request.key, request_digest(self.identity, request), self.name)
            yield Call(call.key, call.request, call.model, **self._said(request))

    def _said(self, request: Request) -> dict[str, Any]:
        try:
            said = self.script(request)
        except Exception as error:  # noqa: BLE001 - a script is anyone's code; its failure is this call's
            return {"stop": "error", "error": f"{type(error).__name__}: {error}"}
        if isinstance(said, str):
            return {"text": said, "stop": "end"}
        return {"text": max(said, key=said.__getitem__), "stop": "end", "logprobs": dict(said)}


def scripted(spec: str) -> Scripted:
    """The scripted model of ``FILE.py:function`` or ``FILE.jsonl``.

    Raises:
        InputError: the file or the function is not there, or a line is not a JSON string.
    """
    file, _, function = spec.rpartition(":") if ".py:" in spec else (spec, "", "")
    path = Path(file).expanduser()
    if not path.is_file():
        raise InputError("no such script", where=str(path), expected="FILE.py:function or FILE.jsonl")
    name = f"scripted/{spec}"
    if not function:
        return Scripted(_lines(path), name)
    script, path = load_function(spec, name)
    model = Scripted(cast(Script, script), name)
    model.identity = f"{name}#{file_digest(path)}"
    return model


def _in_order(texts: Sequence[str]) -> Script:
    rest = iter(list(texts))

    def next_text(_: Request) -> str:
        try:
            return next(rest)
        except StopIteration:
            raise InputError("the script has ended", expected=f"at most {len(texts)} requests") from None

    return next_text


def _lines(path: Path) -> list[str]:
    texts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            text = json.loads(line)
        except ValueError:
            text = None
        if not isinstance(text, str):
            raise InputError("not a JSON string", where=f"{path}:{number}", found=line[:80], expected='"text"')
        texts.append(text)
    return texts
