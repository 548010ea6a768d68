"""A reward function of your own: ``python/FILE.py:function``, with ``function(prompts, completions, **kwargs)``.

Source: TRL, "Using a custom reward function" (GRPO trainer): one number per completion, None where there is none.

``prompts`` and ``completions`` are lists of texts; with ``?conversational=true`` they are lists of message lists, as
TRL passes them for conversational data. ``reference`` (a list) and ``prompt_ids`` are passed as keywords.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pippin.core.config import build, setting
from pippin.core.errors import InputError
from pippin.core.functions import answers, load_function
from pippin.core.run import file_digest
from pippin.core.types import Judge, Messages
from pippin.judge.judging import Judging, Options, Rows, ScoreJudge


@dataclass(frozen=True)
class Config:
    """Settings of a Python reward function."""

    conversational: bool = setting(False, "Pass lists of messages instead of texts")


def make(rest: str, options: Options) -> Judging:
    config = build(Config, options.settings, where=f"python/{rest}")
    function, path = load_function(rest, f"python/{rest}")
    name = rest.rpartition(":")[2]

    def shown(messages: Messages, text: str) -> Any:
        return [{"role": m.role, "content": m.content} for m in messages] if config.conversational else text

    def scores(rows: Rows) -> list[float | None]:
        values = answers(
            function, f"{path}:{name}", len(rows),
            prompts=[shown(p.messages, p.text) for p, _ in rows],
            completions=[shown(r.messages, r.text) for _, r in rows],
            prompt_ids=[p.id for p, _ in rows],
            reference=[p.reference for p, _ in rows],
        )  # fmt: skip
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
