"""Recorded scores in the logs of Inspect and of lm-evaluation-harness, as :mod:`pippin.compare.scored` takes them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pippin.compare.scored import Key, Part, Sample, Scored
from pippin.core.errors import InputError, UnknownName
from pippin.core.types import digest
from pippin.data.eval_logs import HarnessLog, InspectLog, harness_log, inspect_logs, kind_of

NAN = float("nan")
WORDS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""What Inspect's words for right, partly right, wrong and no answer count."""

DRAWN = ("temperature", "top_p", "top_k", "max_tokens", "seed", "system_message", "reasoning_effort", "stop_seqs")
"""What of Inspect's generation settings changes answers."""

_START = 200  # characters of a question that tell it from others; logs cut long ones


@dataclass(frozen=True)
class Choice:
    """What to take from the logs: a metric (empty: the log's own first), and a field that names clusters of samples."""

    metric: str = ""
    cluster: str = ""


def read_scored(paths: Sequence[str], chosen: Choice = Choice()) -> list[Scored]:
    """The scores of one metric in each log.

    Args:
        paths: an Inspect log or a folder of them (one task each); a folder of lm-evaluation-harness's or a file in it.

    Raises:
        InputError: no log is there, it has no samples, or it lacks the metric or the field of clusters.
        UnknownName: no log has such a metric.
    """
    kinds = [kind_of(Path(path).expanduser()) for path in paths]
    for path, kind in zip(paths, kinds, strict=True):
        if kind is None:
            raise InputError("no log of Inspect or lm-evaluation-harness", where=path,
                             expected="LOG.eval, LOG.json, or a folder written with --log_samples")  # fmt: skip
    if len(set(kinds)) > 1:
        raise InputError("logs of two programs", where=", ".join(paths), mend="Compare logs of one program")
    if kinds[0] == "inspect":
        found = [_of_inspect(inspect_logs(Path(path).expanduser()), path, chosen) for path in paths]
    else:
        found = [of_harness(harness_log(Path(path).expanduser()), path, chosen) for path in paths]
    alone = all(len({key.task for key in scored.samples}) == 1 for scored in found)
    return _named_apart([_without_task(scored) for scored in found] if alone else found, paths)


# ---------------------------------------------------------------------- Inspect


def _of_inspect(logs: Sequence[InspectLog], path: str, chosen: Choice) -> Scored:
    tasks = [log.header["eval"]["task"] for log in logs]
    twice = next((task for task in tasks if tasks.count(task) > 1), None)
    if twice is not None:
        raise InputError("several logs of one task", where=path, found=twice, mend="Name one of the files")
    known = [_inspect_metrics(log) for log in logs]
    shared = [metric for metric in known[0] if all(metric in others for others in known)]
    if chosen.metric and chosen.metric not in shared:
        raise UnknownName("score", chosen.metric, shared, where=path)
    metric = chosen.metric or next(iter(shared), "")
    if not metric:
        raise InputError("no score in all of these logs", where=path, found=known)
    samples: dict[Key, Sample] = {}
    notes: list[str] = []
    for log in logs:
        status = log.header.get("status", "cut off")
        notes += [f"{log.path.name}: the evaluation's status is {status}"] if status != "success" else []
        samples |= _inspect_samples(log, metric, chosen.cluster)
    name = str(logs[0].header["eval"].get("model", path))
    settings = {key: value for log in logs for key, value in _inspect_settings(log, len(logs) > 1).items()}
    parts = tuple(Part(task, (task,), stated=_inspect_mean(log, metric)) for task, log in zip(tasks, logs, strict=True))
    if len(logs) > 1:
        parts = (Part("all tasks", tuple(tasks)), *(replace(part, inner=True) for part in parts))
    return Scored(name, metric, samples, True, parts, settings, tuple(notes))


def _inspect_settings(log: InspectLog, several: bool) -> dict[str, str]:
    """How the task was asked: its version and arguments, solvers, epochs, and how answers were drawn."""
    told, plan = log.header["eval"], log.header.get("plan") or {}
    drawn = {**(plan.get("config") or {}), **(told.get("model_generate_config") or {})}
    stated = {
        "task version": told.get("task_version"), "task arguments": told.get("task_args") or None,
        "epochs": (told.get("config") or {}).get("epochs"),
        "solvers": [[step.get("solver"), step.get("params") or {}] for step in plan.get("steps") or ()] or None,
        **{key: drawn.get(key) for key in DRAWN},
    }  # fmt: skip
    where = f"{told['task']}: " if several else ""
    return {f"{where}{key}": _short(value) for key, value in stated.items() if value is not None}


def _short(value: Any) -> str:
    """A setting in one line; a long one by its digest too, so that two that begin alike differ."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= _START else f"{text[:_START]}... ({digest([text])})"


def _inspect_metrics(log: InspectLog) -> list[str]:
    """Names of the scores, the headline first; a score with several values has a name for each."""
    headline = ((log.header.get("results") or {}).get("headline") or {}).get("score")
    found: dict[str, None] = {}
    for sample in log.samples:
        for name, score in (sample.get("scores") or {}).items():
            value = score.get("value")
            found |= dict.fromkeys([f"{name}/{part}" for part in value] if isinstance(value, dict) else [name])
    return sorted(found, key=lambda name: name != headline)


def _inspect_samples(log: InspectLog, metric: str, cluster: str) -> dict[Key, Sample]:
    task = log.header["eval"]["task"]
    scores: dict[str, list[float]] = {}
    first: dict[str, Mapping[str, Any]] = {}
    for sample in log.samples:
        name = str(sample["id"])
        scores.setdefault(name, []).append(_inspect_value(sample.get("scores") or {}, metric))
        first.setdefault(name, sample)
    for name in map(str, (log.header["eval"].get("dataset") or {}).get("sample_ids") or ()):
        scores.setdefault(name, [NAN])  # never run
    return {
        Key(task, name): Sample(
            tuple(values), _cluster(first[name].get("metadata"), cluster, name, log.path) if name in first else name,
            _inspect_content(first[name]) if name in first else "",
        )
        for name, values in scores.items()
    }  # fmt: skip


def _inspect_value(scores: Mapping[str, Any], metric: str) -> float:
    if metric in scores:
        return _number((scores[metric] or {}).get("value"))
    name, _, part = metric.rpartition("/")
    values = (scores.get(name) or {}).get("value")
    return _number(values.get(part)) if isinstance(values, dict) else NAN


def _number(value: Any) -> float:
    """A score as a number; NaN where it is none."""
    if isinstance(value, (bool, int, float)):
        return float(value) if math.isfinite(value) else NAN
    if not isinstance(value, str):
        return NAN
    if value in WORDS or value.lower() in WORDS:
        return WORDS.get(value, WORDS.get(value.lower(), NAN))
    try:
        number = float(value)
    except ValueError:
        return NAN
    return number if math.isfinite(number) else NAN


def _inspect_content(sample: Mapping[str, Any]) -> str:
    """The beginning of the question; long ones are cut or kept elsewhere in some logs."""
    said = sample.get("input", "")
    if isinstance(said, list):
        parts = [message.get("content", "") for message in said]
        said = " ".join(p if isinstance(p, str) else " ".join(str(c.get("text", "")) for c in p) for p in parts)
    text = " ".join(str(said).split())[:_START]
    return "" if "attachment://" in text else digest([text])


def _inspect_mean(log: InspectLog, metric: str) -> float | None:
    """The mean that the log states, where its epochs were averaged."""
    for score in (log.header.get("results") or {}).get("scores") or ():
        if score.get("name") in (metric, metric.rpartition("/")[2]) and score.get("reducer") in (None, "mean"):
            stated = next((m for n, m in score["metrics"].items() if n in ("accuracy", "mean")), {}).get("value")
            return float(stated) if isinstance(stated, (int, float)) and math.isfinite(stated) else None
    return None


# ---------------------------------------------------------------------- lm-evaluation-harness


def of_harness(log: HarnessLog, path: str, chosen: Choice = Choice()) -> Scored:
    """The scores in one run of lm-evaluation-harness.

    Raises:
        InputError: a task lacks the metric, or metrics that are higher and lower when better come together.
    """
    samples: dict[Key, Sample] = {}
    metrics: dict[str, str] = {}
    for task, rows in log.samples.items():
        metrics[task] = metric = _harness_metric(log, task, rows, chosen.metric, path)
        name, _, filtered = metric.partition(",")
        for row in rows:
            if row.get("filter", "none") == filtered:
                doc = str(row["doc_id"])
                cluster = _cluster(row.get("doc"), chosen.cluster, doc, log.path)
                samples[Key(task, doc)] = Sample((_number(row.get(name)),), cluster, str(row.get("doc_hash", "")))
    higher = {_higher_is_better(log, task, metric) for task, metric in metrics.items()}
    if len(higher) > 1:
        raise InputError("some tasks are better with a higher score, some with a lower", where=path, found=metrics,
                         mend="Compare them one by one: --metric NAME")  # fmt: skip
    config = log.results.get("config") or {}
    name = str(log.results.get("model_name") or config.get("model") or path)
    limit = config.get("limit")
    notes = (f"{name}: a limit of {limit:g} samples a task was set",) if limit else ()
    shown = " / ".join(dict.fromkeys(metric.removesuffix(",none") for metric in metrics.values()))
    parts = tuple(_harness_parts(log, metrics, samples))
    return Scored(name, shown, samples, higher.pop(), parts, _harness_settings(log, metrics), notes)


def _harness_settings(log: HarnessLog, tasks: Iterable[str]) -> dict[str, str]:
    """How the tasks were asked: versions, worked examples, system text and template, drawing."""
    told, config = log.results, log.results.get("config") or {}
    stated = {
        "system text": told.get("system_instruction"), "generation": config.get("gen_kwargs") or None,
        "chat template": "used" if told.get("chat_template") else "not used" if "chat_template" in told else None,
        "seed of worked examples": config.get("fewshot_seed"),
        **{f"{task}: version": (told.get("versions") or {}).get(task) for task in tasks},
        **{f"{task}: worked examples": (told.get("n-shot") or {}).get(task) for task in tasks},
    }  # fmt: skip
    return {key: _short(value) for key, value in stated.items() if value is not None}


def _harness_metric(log: HarnessLog, task: str, rows: Sequence[Mapping[str, Any]], asked: str, path: str) -> str:
    """``METRIC,FILTER`` of one task: the one asked for, else its first whose value is a mean over samples."""
    stated = ((log.results.get("configs") or {}).get(task) or {}).get("metric_list") or ()
    other = {str(m.get("metric")) for m in stated if m.get("aggregation", "mean") not in ("mean", "<function mean>")}
    found: dict[str, None] = {}
    for row in rows:
        for name in row.get("metrics") or ():
            if name not in other and isinstance(row.get(name), (bool, int, float)):
                found[f"{name},{row.get('filter', 'none')}"] = None
    order = [str(m.get("metric")) for m in stated]
    known = sorted(found, key=lambda full: order.index(m) if (m := full.partition(",")[0]) in order else len(order))
    chosen = [full for full in known if not asked or asked in (full, full.partition(",")[0])]
    if not known:
        raise InputError("no score that is a mean over samples", where=f"{path}: {task}", found=sorted(other) or None)
    if not chosen:
        raise UnknownName("metric", asked, [full.removesuffix(",none") for full in known], where=f"{path}: {task}")
    return chosen[0]


def _higher_is_better(log: HarnessLog, task: str, metric: str) -> bool:
    stated = ((log.results.get("higher_is_better") or {}).get(task) or {}).get(metric.partition(",")[0])
    return True if stated is None else bool(stated)


def _harness_parts(log: HarnessLog, metrics: Mapping[str, str], samples: Mapping[Key, Sample]) -> Iterable[Part]:
    """The outermost groups, then the tasks in none, then the tasks of groups."""
    under = {name: tuple(inner) for name, inner in (log.results.get("group_subtasks") or {}).items() if inner}
    inner = {name for names in under.values() for name in names}
    for group in (name for name in under if name not in inner):
        leaves = tuple(dict.fromkeys(task for task in _leaves(group, under) if task in metrics))
        if leaves:
            yield _group(group, leaves, log, metrics, samples)
    for task in sorted(metrics, key=lambda task: task in inner):
        yield Part(task, (task,), stated=_stated(log, task, metrics[task]), inner=task in inner)


def _group(
    name: str, leaves: tuple[str, ...], log: HarnessLog, metrics: Mapping[str, str], samples: Mapping[Key, Sample]
) -> Part:
    """The group, its tasks weighed as its stated mean was: by samples, unless only the mean of means is that."""
    stated = _stated(log, name, metrics[leaves[0]])
    by_task = {task: [s.scores[0] for key, s in samples.items() if key.task == task] for task in leaves}
    means = [sum(values) / len(values) for values in by_task.values()]
    weighed = sum(sum(values) for values in by_task.values()) / sum(map(len, by_task.values()))
    even = stated is not None and abs(sum(means) / len(means) - stated) < 1e-9 < abs(weighed - stated)
    return Part(name, leaves, not even, stated)


def _leaves(name: str, under: Mapping[str, tuple[str, ...]]) -> Iterable[str]:
    if name not in under:
        yield name
    for inner in under.get(name, ()):
        yield from _leaves(inner, under)


def _stated(log: HarnessLog, name: str, metric: str) -> float | None:
    value = ((log.results.get("results") or {}).get(name) or {}).get(metric)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


# ---------------------------------------------------------------------- both


def _cluster(fields: Any, key: str, otherwise: str, path: Path) -> str:
    if not key:
        return otherwise
    if not isinstance(fields, Mapping) or fields.get(key) is None:
        raise InputError("a sample without this field", where=f"{path}: sample {otherwise}", found=sorted(fields or ()),
                         expected=key, mend="Give another --cluster")  # fmt: skip
    return str(fields[key])


def _without_task(scored: Scored) -> Scored:
    """One task only: samples are joined by id alone, so that variants of one task can be compared."""
    samples = {Key("", key.id): sample for key, sample in scored.samples.items()}
    return replace(scored, samples=samples, parts=tuple(replace(part, tasks=("",)) for part in scored.parts))


def _named_apart(found: Sequence[Scored], paths: Sequence[str]) -> list[Scored]:
    """Logs by their models' names; where two are of one model, by their files' names, or whole paths."""
    for names in ([scored.name for scored in found], [Path(path).name for path in paths]):
        if len(set(names)) == len(names):
            return [replace(scored, name=name) for scored, name in zip(found, names, strict=True)]
    return [replace(scored, name=path) for scored, path in zip(found, paths, strict=True)]
