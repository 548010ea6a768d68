"""Two logs side by side: the same rows of a benchmark found in both, compared by the scores that were recorded.

Rows are joined by their key and not by place. Where the two logs asked the same row in other words (few-shot examples,
a chat template), the answers still meet, and it is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pippin.compare import outside
from pippin.compare.imported import under
from pippin.compare.outside import Answer, External
from pippin.compare.sides import Side, is_file, read_file, textless
from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Judge, digest
from pippin.data.rows import SUFFIXES
from pippin.judge.judging import Judging, Rows, ScoreJudge

JUDGE = "recorded/"


def read_two(first: str, second: str, judge: str = "") -> tuple[tuple[Side | None, Side | None], Judging | None]:
    """Both sides where they hold responses (None for a model), and the judge that reads off ``recorded/METRIC``.

    The judge is None where ``judge`` is another one. With it, the sides have the answers for which that metric was
    recorded in both; without, those that have a text.

    Raises:
        InputError: as :func:`sides.read_file`; a recorded metric is asked for and a side is no log with scores.
        UnknownName: the logs have no such metric in common.
    """
    metric = asked_metric(judge)
    names = (first, second)
    if not all(is_file(name) for name in names):
        if metric:
            raise InputError(f"{judge} compares the scores of two logs", found=" and ".join(names),
                             mend="Name two logs of inspect_ai or lm-eval, or another judge")  # fmt: skip
        return (_one(first), _one(second)), None
    one, two = (outside.read_external(name) for name in names)
    if not one.metrics and not two.metrics:
        return (read_file(first), read_file(second)), None
    if metric:
        known = in_common(one, two)
        if metric not in known:
            raise UnknownName("metric recorded in both logs", metric, known, where=" and ".join(names))
    met, notes = meet(one.answers, two.answers)
    kept = [pair for pair in met if all(metric in a.scores if metric else a.response.messages for a in pair)]
    if met:
        notes += [] if metric else textless(len(met) - len(kept))
        answers = tuple(outside.numbered(side) for side in zip(*kept, strict=True)) or ((), ())
    else:  # no row in common by key: what they share is prompts
        wanted = [
            [a for a in log.answers if (metric in a.scores if metric else a.response.messages)] for log in (one, two)
        ]
        answers = tuple(outside.numbered(side) for side in wanted)
    if not all(answers):
        raise InputError("no answer that can be compared", where=" and ".join(names),
                         mend="" if metric else _mend(one, two))  # fmt: skip
    sides = tuple(
        Side(name, tuple((a.prompt, a.response) for a in side), notes=(*log.notes, *notes))
        for name, log, side in zip(names, (one, two), answers, strict=True)
    )
    working = _judge(metric, (*answers[0], *answers[1]), metric in one.lower | two.lower) if metric else None
    return (sides[0], sides[1]), working


def asked_metric(judge: str) -> str:
    """METRIC of ``recorded/METRIC``; empty for other judges, a file of judgements (``recorded/FILE``) included."""
    rest = judge.removeprefix(JUDGE)
    if rest == judge or rest.partition("?")[0].lower().removesuffix(".gz").endswith(SUFFIXES):
        return ""
    return "" if Path(rest.partition("?")[0]).expanduser().is_file() else rest


def no_judge(first: str, second: str) -> InputError:
    """For a comparison without a judge: which judge could be named, a metric of both sides where they are logs."""
    known: list[str] = []
    if all(outside.gives(name) == "answers" for name in (first, second)):
        known = in_common(*(outside.read_external(name) for name in (first, second)))
    mend = f"Both logs recorded scores: give --judge {JUDGE}METRIC, METRIC one of {', '.join(known[:12])}"
    return InputError(
        "no judge is named", mend=mend if known else "Give --judge, such as rule/longer, rm/PATH or openai/gpt-4o-mini"
    )


def in_common(one: External, two: External) -> list[str]:
    """The metrics that both recorded, in the order of the first."""
    return [metric for metric in one.metrics if metric in two.metrics]


def meet(one: Sequence[Answer], two: Sequence[Answer]) -> tuple[list[tuple[Answer, Answer]], list[str]]:
    """The answers of both logs to the same rows, under the first log's prompts; and what is to be said of the rest."""
    theirs = _by_key(two)
    mine = _by_key(one)
    met = [(answer, theirs[key]) for key, answer in mine.items() if key in theirs]
    if not met:
        return [], []
    alone = len(mine) + len(theirs) - 2 * len(met)
    other = sum(a.prompt.id != b.prompt.id for a, b in met)
    notes = [f"{alone} answers are to rows that only one log has: left out"] if alone else []
    if other:
        notes.append(f"{other} of {len(met)} rows were asked in other words: few-shot examples or templates differ")
    return [(a, under(a.prompt, b)) for a, b in met], notes


def _by_key(answers: Sequence[Answer]) -> dict[tuple[str, int], Answer]:
    """By key and how often it came before; answers without a key meet nothing here."""
    seen: Counter[str] = Counter()
    found = {}
    for answer in answers:
        if answer.key:
            found[answer.key, seen[answer.key]] = answer
            seen[answer.key] += 1
    return found


def _one(name: str) -> Side | None:
    return read_file(name) if is_file(name) else None


def _judge(metric: str, answers: Sequence[Answer], lower: bool) -> Judging:
    numbers = {(a.prompt.id, a.response.id): a.scores.get(metric) for a in answers}
    sign = -1.0 if lower else 1.0

    def score(rows: Rows) -> list[float | None]:
        found = [numbers.get((prompt.id, response.id)) for prompt, response in rows]
        return [None if number is None else sign * number for number in found]

    name = f"{JUDGE}{metric}" + (" (less is better: negated)" if lower else "")
    return ScoreJudge(Judge(name, digest(sorted([*key, number] for key, number in numbers.items()))), score)


def _mend(one: External, two: External) -> str:
    known = in_common(one, two)
    return f"The logs recorded scores: --judge {JUDGE}{known[0]}" if known else ""
