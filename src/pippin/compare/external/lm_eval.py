"""Logs of lm-evaluation-harness (``--log_samples``): the answers and the scores of every row of every task.

A task with several filters logs a row for each; its metrics are then named ``METRIC,FILTER`` as in the results. With
several tasks every metric is there twice: over all tasks, and as ``TASK/METRIC``. Where log-likelihoods of given
continuations were asked for, the answer is the one of the highest; a single continuation is no answer, and has scores
without a text.

Source: lm-evaluation-harness, ``evaluator.py`` (the fields of a row), ``api/metrics.py`` (what perplexity is made of)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pippin.compare import folders
from pippin.compare.outside import Answer, External, Json, Kind, numbered
from pippin.core.errors import InputError
from pippin.core.types import Message, Messages, Prompt, Response, assistant, user
from pippin.data.eval_logs import harness_log, kind_of

_LOG_LIKELIHOODS = ("perplexity",)  # aggregated to less-is-better, recorded a row as more-is-better


def detect(path: Path) -> bool:
    return not folders.is_model(path) and kind_of(path) == "lm_eval"


def read(path: Path) -> External:
    log = harness_log(path)
    model = str(log.results.get("model_name") or (log.results.get("config") or {}).get("model") or "")
    seen: Counter[str] = Counter()
    answers = [
        a for task, rows in log.samples.items() for a in _task(rows, task, model, len(log.samples) > 1, seen, log.path)
    ]
    notes = tuple(f"{count} {what}" for what, count in sorted(seen.items()))
    return External("lm_eval", answers=numbered(answers), lower=_lower(log.results),
                    manifest=_manifest(log.results, model), notes=notes)  # fmt: skip


def _task(rows: Sequence[Json], task: str, model: str, several: bool, seen: Counter[str], path: Path) -> list[Answer]:
    """The answers of one task: the rows of one document under all filters are one answer, or one a repeat."""
    documents: dict[Any, list[Json]] = {}
    for number, row in enumerate(rows, 1):
        if "doc_id" not in row or "arguments" not in row:
            raise InputError("not a row of lm-eval's samples", where=f"{path}: {task}, row {number}",
                             found=sorted(row)[:8], expected="doc_id, arguments, resps")  # fmt: skip
        documents.setdefault(row["doc_id"], []).append(row)
    filtered = len({row.get("filter", "none") for row in rows}) > 1
    answers = []
    for name, same in documents.items():
        first = same[0]
        try:
            asked = _arguments(first["arguments"])
            prompt = Prompt(_messages(asked[0][0]), source=f"lm_eval/{task}", reference=_reference(first.get("target")))
            texts = _texts(first, asked, seen)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise InputError("a row of samples that cannot be read", where=f"{path}: {task}, doc_id {name}",
                             found=f"{type(error).__name__}: {error}") from None  # fmt: skip
        scores: dict[str, float | None] = {}
        for row in same:
            scores |= _scores(row, filtered, seen)
        scores |= {f"{task}/{metric}": value for metric, value in scores.items()} if several else {}
        key = f"{task}/{name}/{first.get('doc_hash') or prompt.id}"
        said = [() if text is None else assistant(text) for text in texts]
        made = [Answer(prompt, Response(prompt.id, turns, by=model), key) for turns in said]
        answers += [replace(made[0], scores=scores), *made[1:]]  # a document has one score, however often it was asked
    return answers


def _scores(row: Json, filtered: bool, seen: Counter[str]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for metric in row.get("metrics") or ():
        value = row.get(metric)
        if isinstance(value, (list, dict)):
            seen[f"values of {metric} that are no single number left out"] += 1
            continue
        number = float(value) if isinstance(value, (bool, int, float)) and value == value else None
        found[f"{metric},{row.get('filter')}" if filtered else str(metric)] = number
    return found


def _texts(row: Json, asked: Sequence[tuple[Any, ...]], seen: Counter[str]) -> list[str | None]:
    """One text a repeat; None where the log has none."""
    resps = row["resps"]
    if len(asked[0]) > 1 and isinstance(asked[0][1], Mapping):
        return [str(text) for text in resps[0]]
    if len(asked) < 2:
        seen["rows that score a given text, and have no answer"] += 1
        return [None]
    values = [float(one[0][0]) for one in resps]
    best = max(range(len(values)), key=values.__getitem__)
    seen["answers that are the most likely of given continuations"] += 1
    return [str(asked[best][1]).strip()]


def _arguments(stated: Any) -> list[tuple[Any, ...]]:
    """(context, continuation or settings) of each request: today under ``gen_args_N``, before as lists."""
    if isinstance(stated, Mapping):
        return [tuple(one[key] for key in sorted(one)) for one in stated.values()]
    return [tuple(one) for one in stated]


def _messages(context: Any) -> Messages:
    """A context as it was sent: a text, or a conversation written as JSON where a chat server was asked."""
    text = context[0] if isinstance(context, list) and len(context) == 1 else context
    if not isinstance(text, str):
        raise TypeError(f"a context that is {type(text).__name__}")
    if text.startswith('[{"role"'):
        try:
            return tuple(Message(turn["role"], turn["content"]) for turn in json.loads(text))
        except (ValueError, KeyError, TypeError):
            pass  # a text that only begins so
    return user(text)


def _reference(target: Any) -> str | None:
    return target if isinstance(target, str) else None


def _lower(told: Json) -> frozenset[str]:
    """Metrics of which less is better, as recorded a row."""
    stated = told.get("higher_is_better") or {}
    named = [(task, metric, up) for task, metrics in stated.items() for metric, up in metrics.items()]
    less = [(task, metric) for task, metric, up in named if up is False and metric not in _LOG_LIKELIHOODS]
    return frozenset([metric for _, metric in less] + [f"{task}/{metric}" for task, metric in less])


def _manifest(told: Json, model: str) -> Json:
    config = told.get("config") or {}
    shots = told.get("n-shot")
    stated: Json = {
        "answers.model": model,
        "answers.few-shot": ", ".join(f"{t} {n}" for t, n in sorted(shots.items())) if isinstance(shots, dict) else "",
        "answers.chat template": bool(told["chat_template"]) if "chat_template" in told else None,
        "answers.seed": config.get("random_seed"),
        "answers.limit": config.get("limit"),
        "library.lm_eval": told.get("lm_eval_version"),
    }
    return {k: v for k, v in stated.items() if v not in (None, "")}


EXTERNAL = Kind(detect, read, "answers", over=("responses",))
