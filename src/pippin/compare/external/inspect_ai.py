"""Logs of inspect_ai, ``.eval`` or ``.json``: the answers of their samples and every score recorded for them.

A sample is asked once an epoch; each epoch is one answer. A sample that failed has no answer and is counted. A folder's
logs are of one model, each of its own task; scores are then there over all tasks, and as ``TASK/SCORER``. Grades become
numbers as in inspect_ai: C 1, P 1/2, I and N 0.

Source: inspect_ai, ``log/_log.py`` (the fields), ``scorer/_metric.py`` (grades)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pippin.compare import folders
from pippin.compare.outside import Answer, External, Json, Kind, numbered
from pippin.core.errors import InputError
from pippin.core.types import Message, Messages, Prompt, Response, Sampling, assistant, user
from pippin.data.eval_logs import InspectLog, inspect_logs, kind_of

_STOPS = {"stop": "end", "max_tokens": "length", "model_length": "length", "content_filter": "filter"}
_ATTACHMENT = "attachment://"


def detect(path: Path) -> bool:
    return not folders.is_model(path) and kind_of(path) == "inspect"


def read(path: Path) -> External:
    logs = inspect_logs(path, whole=True)
    told: list[Json] = [one for log in logs if isinstance(one := log.header.get("eval"), dict)]
    if len(told) < len(logs):
        raise InputError("not a log of inspect_ai", where=str(path), expected="a header with eval")
    models, tasks = ([str(one.get(what)) for one in told] for what in ("model", "task"))
    if len(set(models)) > 1:
        raise InputError("logs of several models", where=str(path), found=models[:6], mend="Name one of the files")
    if len(set(tasks)) < len(tasks):
        raise InputError("several logs of one task", where=str(path), found=tasks[:6], mend="Name one of the files")
    seen: Counter[str] = Counter()
    answers, notes = [], []
    for log in logs:
        made, said = _answers(log, len(logs) > 1, seen)
        answers += made
        notes += said
    notes += [f"{count} {what}" for what, count in sorted(seen.items())]
    if not answers:
        raise InputError("no sample of this log has an answer", where=str(path), found=notes[0] if notes else None)
    return External("inspect_ai", answers=numbered(answers), manifest=_manifest(told), notes=tuple(notes))


def _answers(log: InspectLog, several: bool, seen: Counter[str]) -> tuple[list[Answer], list[str]]:
    """The answers of one log, epoch by epoch, and what is to be said of it."""
    told, status = log.header["eval"], log.header.get("status", "cut off")
    answers, failed = [], []
    for sample in sorted(log.samples, key=lambda s: s.get("epoch") or 1):  # the order within an epoch stays
        error = sample.get("error")
        if error or not (sample.get("output") or {}).get("choices"):
            failed.append(str((error or {}).get("message") or "no output"))
            continue
        try:
            answers.append(_answer(sample, told, several, seen))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as problem:
            raise InputError("a sample that cannot be read", where=f"{log.path}: sample {sample.get('id')}",
                             found=f"{type(problem).__name__}: {problem}") from None  # fmt: skip
    notes = [f"the status of {told.get('task')} is {status}"] if status != "success" else []
    if failed:
        notes.append(f"{len(failed)} of {len(log.samples)} samples failed, the first by: {failed[0][:120]}")
    return answers, notes


def _answer(sample: Json, told: Json, several: bool, seen: Counter[str]) -> Answer:
    attached = sample.get("attachments") or {}
    talk = sample.get("messages") or []
    asked = sample["input"]
    if sample.get("choices"):  # the choices stand in what was sent alone
        asked = [m for m in talk if m.get("source") == "input"] or asked
    messages = user(_text(asked, attached, seen)) if isinstance(asked, str) else _turns(asked, attached, seen)
    target, task = sample.get("target"), told.get("task")
    prompt = Prompt(messages, source=f"inspect_ai/{task}", reference=target if isinstance(target, str) else None)
    choice = sample["output"]["choices"][0]
    ends = max((n for n, m in enumerate(talk) if m.get("role") == "assistant"), default=len(talk))
    sent = _turns(talk[:ends], attached, seen)
    response = Response(
        prompt.id, assistant(_text(choice["message"]["content"], attached, seen)), by=str(told.get("model") or ""),
        context=sent if sent and sent != messages else None, stop=_STOPS.get(str(choice.get("stop_reason")), ""),  # type: ignore[arg-type]
        sampling=_sampling(told.get("model_generate_config") or {}),
    )  # fmt: skip
    scores = dict(_scores(sample.get("scores") or {}, seen))
    scores |= {f"{task}/{name}": value for name, value in scores.items()} if several else {}
    return Answer(prompt, response, f"{task}/{sample.get('id')}/{prompt.id}", scores)


def _sampling(config: Json) -> Sampling | None:
    """How answers were drawn, where the log says all of it."""
    if config.get("temperature") is None or config.get("max_tokens") is None:
        return None
    top_p, seed = config.get("top_p"), config.get("seed")
    return Sampling(
        float(config["temperature"]), 1.0 if top_p is None else float(top_p), int(config["max_tokens"]), int(seed or 0)
    )


def _scores(scores: Json, seen: Counter[str]) -> Iterator[tuple[str, float | None]]:
    """Each recorded number by its scorer's name; ``SCORER/KEY`` where one scorer gives several."""
    for scorer, score in scores.items():
        value = score.get("value")
        if isinstance(value, dict):
            yield from ((f"{scorer}/{key}", _number(item, seen)) for key, item in value.items())
        else:
            yield scorer, _number(value, seen)


def _number(value: Any, seen: Counter[str]) -> float | None:
    """None where nothing was scored, or where it is no grade and no number, which is counted."""
    from pippin.compare.scored_logs import WORDS  # it loads SciPy, which telling one kind from another needs not

    if isinstance(value, str):
        word = WORDS.get(value, WORDS.get(value.lower()))
        value = folders.number(value) if word is None else word
    if value is None or isinstance(value, (bool, int, float)):
        return None if value is None or not math.isfinite(value) else float(value)
    seen["scores that are neither grades nor numbers"] += 1
    return None


def _turns(messages: Sequence[Json], attached: Json, seen: Counter[str]) -> Messages:
    found = []
    for message in messages:
        if message.get("role") not in ("system", "user", "assistant"):
            seen["messages of tools left out of what was sent"] += 1
            continue
        found.append(Message(message["role"], _text(message.get("content"), attached, seen)))
    return tuple(found)


def _text(content: Any, attached: Json, seen: Counter[str]) -> str:
    """The text of a content, which is a text or a list of parts; reasoning is no part of an answer."""
    if isinstance(content, str):
        return str(attached.get(content.removeprefix(_ATTACHMENT), content))
    texts = []
    for part in content or []:
        if part.get("type") == "text":
            texts.append(_text(part.get("text") or "", attached, seen))
        elif part.get("type") != "reasoning":
            seen["parts of messages that are no text"] += 1
    return "\n".join(texts)


def _manifest(told: Sequence[Json]) -> Json:
    """What all logs say alike of the model and of how it was asked."""
    config = told[0].get("model_generate_config") or {}
    stated: Json = {
        "answers.model": told[0].get("model"),
        "answers.task": ", ".join(str(one.get("task")) for one in told),
        **{f"decoding.{name}": config.get(name) for name in ("temperature", "top_p", "max_tokens")},
        "library.inspect_ai": (told[0].get("packages") or {}).get("inspect_ai"),
    }
    return {k: v for k, v in stated.items() if v is not None}


EXTERNAL = Kind(detect, read, "answers", over=("responses",))
