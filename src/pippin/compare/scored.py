"""Models compared by scores that another program recorded, one for each sample: means, paired differences, power.

A sample is a question of a task. Its scores over epochs are averaged first, so that each sample counts once; samples
are joined by task and id; clusters of samples (or the samples) are what is resampled, within each task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from pippin import stats
from pippin.core.errors import InputError
from pippin.core.types import Estimate
from pippin.stats.intervals import FEW_BOUNDED, FEW_DEPARTING

Verdict = Literal["better", "worse", "cannot tell"]
LEVEL = 0.05  # of the whole family of comparisons
_SHARES = {0.0, 0.25, 0.5, 0.75, 1.0}  # right, wrong, won, lost, tied in one order or two: 0 and 1 are the ends


class Key(NamedTuple):
    """Which sample: joined by these two."""

    task: str
    id: str


@dataclass(frozen=True)
class Sample:
    """The scores of one sample, one an epoch, NaN where there is none.

    Attributes:
        cluster: samples of one cluster (a passage, a pair in two orders) are not independent.
        content: digest of the question, empty where it is not known; where it differs under one key, the samples are
            not the same question.
    """

    scores: tuple[float, ...]
    cluster: str
    content: str = ""


@dataclass(frozen=True)
class Part:
    """A line of the tables: the tasks that it is of, which weigh by their samples, or each the same.

    Attributes:
        stated: the mean that the log itself states for it, where it states one.
        inner: it is part of another line: compared too, in a family of comparisons of its own.
    """

    name: str
    tasks: tuple[str, ...]
    by_samples: bool = True
    stated: float | None = None
    inner: bool = False


@dataclass(frozen=True)
class Scored:
    """One model's scores by one metric.

    Attributes:
        parts: lines of the tables, as the log groups its tasks; none: each task, and all together.
        settings: how it was asked; what differs from the baseline's is said.
        notes: what a reader of the figures must know.
    """

    name: str
    metric: str
    samples: Mapping[Key, Sample]
    higher_is_better: bool = True
    parts: tuple[Part, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Level:
    """One model's mean on one part.

    Attributes:
        mean: None where no sample has a score.
        missing: samples without any score.
        lost: scores that are missing, over all epochs.
        bounds: what the missing samples could change, where the scores' ends are known.
    """

    name: str
    part: str
    mean: Estimate | None
    samples: int
    missing: int
    lost: int
    bounds: stats.Bounds | None = None


@dataclass(frozen=True)
class Contrast:
    """One model less the baseline on one part, on the samples of both.

    Attributes:
        delta: model less baseline, with p; None where no sample has two scores.
        inner: it is on a part of another part.
        p_holm: adjusted over all comparisons that were made, apart for those on inner parts.
        mcnemar: of single right or wrong scores (``a`` is the model).
        detectable: the smallest difference that so many samples find 4 times in 5.
        needed: samples with which the difference seen would be found 4 times in 5.
        alone, changed: samples that only one side has; that are another question on the other side.
    """

    name: str
    baseline: str
    part: str
    delta: Estimate | None
    inner: bool = False
    p_holm: float | None = None
    mcnemar: stats.McNemar | None = None
    detectable: float | None = None
    needed: int | None = None
    bounds: stats.Bounds | None = None
    alone: tuple[int, int] = (0, 0)
    changed: int = 0
    verdict: Verdict = "cannot tell"


@dataclass(frozen=True)
class Recordings:
    """What the scores of several models say."""

    metric: str
    baseline: str
    levels: tuple[Level, ...]
    contrasts: tuple[Contrast, ...]
    notes: tuple[str, ...]

    def to_row(self) -> dict[str, Any]:
        """Everything as plain values."""
        return asdict(self)


def compare_scored(models: Sequence[Scored], baseline: str = "", *, seed: int = 0) -> Recordings:
    """Means of each model and paired differences from the baseline.

    Args:
        models: recorded scores; one alone has means and no differences.
        baseline: the name of one of them; by default the first.
        seed: of the resampling.

    Raises:
        InputError: no model, two of one name, no baseline of that name; or a model has another metric, or no sample in
            common with the baseline.
    """
    names = [model.name for model in models]
    if not models or len(set(names)) < len(names):
        raise InputError("each log needs a name of its own", found=names)
    if baseline and baseline not in names:
        raise InputError("no log has the baseline's name", where="baseline", found=baseline, expected=names)
    if len({(model.metric, model.higher_is_better) for model in models}) > 1:
        raise InputError("the logs' first scores are not the same", found={m.name: m.metric for m in models},
                         mend="Name one that all have: --metric NAME")  # fmt: skip
    base = models[names.index(baseline)] if baseline else models[0]
    lines = base.parts or _every_task(models)
    bootstrap = stats.Bootstrap(seed=seed)
    levels = [_level(model, part, bootstrap) for part in lines for model in models]
    others = [model for model in models if model is not base]
    made = [_contrast(model, base, part, bootstrap) for part in lines for model in others]
    families = ([c for c in made if c.inner is inner] for inner in (False, True))
    for other in others:
        if not _joined(other, base, None):
            raise InputError("no sample in common", where=f"{other.name}, {base.name}",
                             mend="Compare logs of the same tasks")  # fmt: skip
    return Recordings(
        base.metric, base.name, tuple(levels),
        tuple(contrast for family in families for contrast in _as_a_family(family, base.higher_is_better)),
        tuple(
            note
            for m in models
            for note in (*m.notes, *_otherwise(m, base), *_without_tasks(m, lines), *_against_stated(m, levels))
        ),
    )  # fmt: skip


def _every_task(models: Sequence[Scored]) -> tuple[Part, ...]:
    tasks = tuple(sorted({key.task for model in models for key in model.samples}))
    if len(tasks) == 1:
        return (Part(tasks[0], tasks),)
    return (Part("all tasks", tasks), *(Part(task, (task,), inner=True) for task in tasks))


def _level(model: Scored, part: Part, bootstrap: stats.Bootstrap) -> Level:
    rows = [(key, sample) for key, sample in model.samples.items() if key.task in part.tasks]
    values_N = np.array([_mean_of(sample) for _, sample in rows])
    missing = int(np.isnan(values_N).sum())
    lost = sum(score != score for _, sample in rows for score in sample.scores)
    if missing == len(rows):
        return Level(model.name, part.name, None, len(rows), missing, lost)
    support = (0.0, 1.0) if are_shares(_all(sample for _, sample in rows)) else None
    axes = _axes([key.task for key, _ in rows], [sample.cluster for _, sample in rows], values_N, part)
    mean = _estimate(values_N, axes, support, bootstrap)
    ends = None
    if missing and support and len(part.tasks) == 1:
        ends = stats.bounds(values_N, *support, axes.clusters_N, bootstrap=bootstrap)
    return Level(model.name, part.name, mean, len(rows), missing, lost, ends)


def _contrast(model: Scored, base: Scored, part: Part, bootstrap: stats.Bootstrap) -> Contrast:
    rows = _joined(model, base, part)
    mine, theirs = ({k for k in side.samples if k.task in part.tasks} for side in (model, base))
    common = mine & theirs
    made = Contrast(
        model.name, base.name, part.name, None, part.inner, alone=(len(mine - common), len(theirs - common)),
        changed=len(common) - len(rows),
    )  # fmt: skip
    one_N, two_N = (np.array([_mean_of(side.samples[key]) for key in rows]) for side in (model, base))
    difference_N = one_N - two_N
    known_N = ~np.isnan(difference_N)
    if not known_N.any():
        return made
    support = (-1.0, 1.0) if are_shares(_all(side.samples[key] for side in (model, base) for key in rows)) else None
    clusters = [base.samples[key].cluster for key in rows]
    axes = _axes([key.task for key in rows], clusters, difference_N, part)
    delta = _estimate(difference_N, axes, support, bootstrap, test=True)
    if delta is None:
        return made
    ends = None
    if support and not known_N.all() and len(part.tasks) == 1:
        ends = stats.bounds(difference_N, *support, axes.clusters_N, bootstrap=bootstrap)
    if len(np.unique(axes.clusters_N)) < len(rows) or not _binary(one_N, two_N):
        return replace(made, delta=delta, bounds=ends)
    test = stats.mcnemar(one_N, two_N)
    exact = part.by_samples or axes.strata_N is None  # then it is the test of this very difference
    return replace(made, delta=replace(delta, p=test.p) if exact else delta, bounds=ends, mcnemar=test)


def _binary(*sides: np.ndarray) -> bool:
    return all(bool((np.isin(side, (0.0, 1.0)) | np.isnan(side)).all()) for side in sides)


class _Axes(NamedTuple):
    clusters_N: np.ndarray
    strata_N: np.ndarray | None
    scale_N: np.ndarray | None  # makes the unweighted mean of the tasks' means one that weighs them by their samples


def _axes(tasks: Sequence[str], clusters: Sequence[str], values_N: np.ndarray, part: Part) -> _Axes:
    """What is drawn, and within what."""
    task_N = np.array(tasks)
    clusters_N = np.array([f"{len(task)}:{task}{cluster}" for task, cluster in zip(tasks, clusters, strict=True)])
    known_N = ~np.isnan(values_N)
    here, counts = np.unique(task_N[known_N], return_counts=True)
    drawn = [len(np.unique(clusters_N[known_N & (task_N == task)])) for task in here]
    if len(here) < 2 or min(drawn) < 2:
        return _Axes(clusters_N, None, None)
    weight = dict(zip(here, counts * len(here) / known_N.sum(), strict=True))
    scale_N = np.array([weight.get(task, 1.0) for task in tasks]) if part.by_samples else None
    return _Axes(clusters_N, task_N, scale_N)


def _estimate(
    values_N: np.ndarray,
    axes: _Axes,
    support: tuple[float, float] | None,
    bootstrap: stats.Bootstrap,
    *,
    test: bool = False,
) -> Estimate | None:
    """The mean with its interval, and p against zero; None where one cluster without known ends has none.

    Where few clusters differ from the others, tasks that weigh by their samples are drawn as one: the interval is a
    little wide, and has the ends that scores have.
    """
    if axes.scale_N is not None and support is not None and _few(axes.clusters_N, values_N):
        axes = _Axes(axes.clusters_N, None, None)
    scaled_N = values_N if axes.scale_N is None else values_N * axes.scale_N
    support = support if axes.scale_N is None else None
    if support is None and len(np.unique(axes.clusters_N[~np.isnan(values_N)])) < 2:
        return None
    told = {"strata": axes.strata_N, "support": support, "unit": "score", "bootstrap": bootstrap}
    if test:
        return stats.paired(scaled_N, np.zeros(len(values_N)), axes.clusters_N, **told)
    return stats.mean(scaled_N, axes.clusters_N, **told)


def _few(clusters_N: np.ndarray, values_N: np.ndarray) -> bool:
    """Whether so few clusters are there, or depart from the commonest value, that no resampling tells their spread."""
    known_N = ~np.isnan(values_N)
    counts = np.unique(values_N[known_N], return_counts=True)[1]
    return len(np.unique(clusters_N[known_N])) < FEW_BOUNDED or int(known_N.sum() - counts.max()) < FEW_DEPARTING


def _joined(model: Scored, base: Scored, part: Part | None) -> list[Key]:
    """The samples of both sides that are the same question."""
    return [
        key for key, sample in base.samples.items()
        if (part is None or key.task in part.tasks) and key in model.samples
        and (not sample.content or model.samples[key].content in ("", sample.content))
    ]  # fmt: skip


def _as_a_family(made: Sequence[Contrast], higher_is_better: bool) -> list[Contrast]:
    """The comparisons with p-values adjusted for one another, what they could detect, and what they say.

    One that could not be made counts as one that shows nothing.
    """
    adjusted = stats.holm([1.0 if c.delta is None or c.delta.p is None else c.delta.p for c in made])
    found = []
    for contrast, p in zip(made, adjusted.tolist(), strict=True):
        if contrast.delta is None:
            found.append(contrast)
            continue
        better = (contrast.delta.value > 0) == higher_is_better
        verdict: Verdict = "cannot tell" if p > LEVEL else "better" if better else "worse"
        power = _power(contrast.delta, LEVEL / len(made))
        found.append(replace(contrast, p_holm=p, verdict=verdict, **power))
    return found


def _power(delta: Estimate, alpha: float) -> dict[str, Any]:
    """The difference that can be found, and the clusters that the one seen needs; none where nothing varies."""
    if delta.high <= delta.low or delta.clusters < 2:
        return {}
    sd = stats.cluster_sd(delta)
    told: dict[str, Any] = {"detectable": stats.minimum_detectable_effect(sd, delta.clusters, alpha=alpha)}
    if abs(delta.value) > sd * 1e-6:
        told["needed"] = stats.sample_size(delta.value, sd, alpha=alpha)
    return told


def _otherwise(model: Scored, base: Scored) -> list[str]:
    """Notes where the model was asked in another way than the baseline: the difference may be of that."""
    return [
        f"{model.name}: {key} is {model.settings.get(key, 'not stated')}, "
        f"where {base.name} has {base.settings.get(key, 'not stated')}"
        for key in sorted({*model.settings, *base.settings})
        if model.settings.get(key) != base.settings.get(key)
    ]


def _without_tasks(model: Scored, lines: Sequence[Part]) -> list[str]:
    """Notes where a model lacks some of a part's tasks, so that its mean there is of other tasks."""
    known = {key.task for key in model.samples}
    lacking = {part.name: [task for task in part.tasks if task not in known] for part in lines if len(part.tasks) > 1}
    return [f"{model.name}: {part} without {', '.join(tasks)}" for part, tasks in lacking.items() if tasks]


def _against_stated(model: Scored, levels: Sequence[Level]) -> list[str]:
    """Notes where the log's own mean is not that of its samples."""
    own = {level.part: level.mean.value for level in levels if level.name == model.name and level.mean}
    return [
        f"{model.name}: the log states {part.stated:.4g} on {part.name}, its samples average {own[part.name]:.4g}"
        for part in model.parts
        if part.stated is not None and part.name in own and abs(own[part.name] - part.stated) > 1e-6
    ]


def _mean_of(sample: Sample) -> float:
    """The mean over epochs that have a score."""
    known = [score for score in sample.scores if score == score]
    return sum(known) / len(known) if known else float("nan")


def are_shares(scores: Iterable[float]) -> bool:
    """Whether scores (NaN: none) are shares of right answers or of wins, so that 0 and 1 are their ends."""
    return all(score in _SHARES for score in scores if score == score)


def _all(samples: Iterable[Sample]) -> list[float]:
    return [score for sample in samples for score in sample.scores]
