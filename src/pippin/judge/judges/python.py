"""A reward function of your own: ``python/FILE.py:function``, with ``function(prompts, completions, **kwargs)``.

Source: TRL, "Using a custom reward function" (GRPO trainer): one number per completion, None where there is none.

``prompts`` and ``completions`` are lists of texts; with ``?conversational=true`` they are lists of message lists, as
TRL passes them for conversational data. ``reference`` (a list) and ``prompt_ids`` are passed as keywords.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pippin.core.config import build, setting
from pippin.core.errors import InputError, UnknownName
from pippin.core.run import file_digest
from pippin.core.types import Judge, Messages
from pippin.judge.judging import Judging, Options, Rows, ScoreJudge


@dataclass(frozen=True)
class Config:
    """Settings of a Python reward function."""

    conversational: bool = setting(False, "Pass lists of messages instead of texts")


def load(path: Path, name: str) -> Callable[..., Any]:
    """The function ``name`` of the file. The file is run: it is the user's own."""
    if not path.is_file():
        raise InputError("no such file", where=str(path))
    spec = importlib.util.spec_from_file_location(f"pippin_user_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # a .py file always has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    if name not in functions:
        raise UnknownName("function", name, functions, where=str(path))
    return getattr(module, name)


def make(rest: str, options: Options) -> Judging:
    config = build(Config, options.settings, where=f"python/{rest}")
    file, colon, name = rest.rpartition(":")
    path = Path(file).expanduser()
    if not colon or path.suffix != ".py":
        raise InputError("not a Python judge", found=f"python/{rest}", expected="python/FILE.py:function")
    function = load(path, name)

    def shown(messages: Messages, text: str) -> Any:
        return [{"role": m.role, "content": m.content} for m in messages] if config.conversational else text

    def scores(rows: Rows) -> list[float | None]:
        values = function(
            prompts=[shown(p.messages, p.text) for p, _ in rows],
            completions=[shown(r.messages, r.text) for _, r in rows],
            prompt_ids=[p.id for p, _ in rows],
            reference=[p.reference for p, _ in rows],
        )
        return [_number(value, f"{path}:{name}") for value in values]

    return ScoreJudge(Judge(f"python/{rest}", file_digest(path)), scores)


def _number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError("the function gave something else than a number", where=where, found=value,
                         expected="a finite number, or None")  # fmt: skip
    return number


JUDGE = make
