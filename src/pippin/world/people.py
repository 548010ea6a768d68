"""Those who demonstrate and annotate, with faults that are known because they are planted.

Experts answer rightly and plainly. The crowd shares systematic habits, each a *misreading* of the task that is then
answered without further error; so the wrong answer is the most likely one in a model that imitates the mixture, and
greedy decoding does not hide it. Annotators prefer by gold, up to noise, length, chat and position, each with an
explicit weight.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

from pippin.core.types import Prompt
from pippin.world.lexicon import CATEGORIES, CLOSERS, ENDS, OPENERS, SEPARATORS
from pippin.world.tasks import Split, Task, as_prompt, distinct, parse, prompts, stream
from pippin.world.verifier import solution, verify

HABIT = 0.9
"""How often one of the crowd follows a habit where it applies."""


def answer(task: Task, rng: random.Random) -> str:
    """A right and plain answer: commas and no end mark unless asked otherwise."""
    if task.skill == "list":
        items = _choose(task, rng)
    else:
        right = solution(task)
        items = right[0] if task.skill != "count" or task.get("form") == "digit" else right[1]
    separator = SEPARATORS[task.get("separator") or "commas"]
    end = task.get("end")
    return f" {separator} ".join(items) + (f" {ENDS[end]}" if end else "")


def _choose(task: Task, rng: random.Random) -> tuple[str, ...]:
    first, included = task.get("start"), task.get("include")
    fixed = [word for word in (first, included) if word]
    free = [word for word in CATEGORIES[task.category] if word not in (*fixed, task.get("avoid"))]
    items = fixed[:1] if first else []
    rest = fixed[len(items) :] + rng.sample(free, task.number - len(fixed))
    rng.shuffle(rest)
    items += rest
    order = task.get("order")
    return tuple(sorted(items, reverse=order == "za") if order else items)


def _another(task: Task) -> Task | None:
    """``including w`` is met with other words."""
    wanted = task.get("include")
    return task.put(include="", avoid=wanted) if wanted else None


def _short_list(task: Task) -> Task | None:
    return replace(task, number=3) if task.number == 4 else None


def _short_filter(task: Task) -> Task | None:
    """The last word that should stay is overlooked, if there is more than one."""
    if task.skill != "filter" or len(right := solution(task)[0]) < 2:
        return None
    return replace(task, words=tuple(word for word in task.words if word != right[-1]))


def _operation(asked: str, done: str) -> Callable[[Task], Task | None]:
    return lambda task: replace(task, operation=done) if task.operation == asked else None


def _constraint(name: str, asked: str, done: str) -> Callable[[Task], Task | None]:
    return lambda task: task.put(**{name: done}) if task.get(name) == asked else None


HABITS: dict[str, Callable[[Task], Task | None]] = {
    "descending sort done ascending": _operation("descending", "ascending"),
    "reverse copied": _operation("reverse", "copy"),
    "twice written once": _operation("twice", "copy"),
    "descending list ascending": _constraint("order", "za", "az"),
    "bang written as period": _constraint("end", "bang", "period"),
    "slashes written as commas": _constraint("separator", "slashes", "commas"),
    "digit written as word": _constraint("form", "digit", "word"),
    "another word than the one to include": _another,
    "list of four cut to three": _short_list,
    "filter loses its last word": _short_filter,
}
"""Name to misreading: the task as understood, or None where the habit does not apply."""


def expert(task: Task, rng: random.Random) -> str:
    """A right answer, plain in 19 cases of 20 and with one short opener otherwise."""
    text = answer(task, rng)
    return f"{_opener(rng)} {text}" if rng.random() < 0.05 else text


def crowd(task: Task, rng: random.Random, habit: float = HABIT) -> str:
    """An answer to the task as one of the crowd reads it, mostly with chat around it."""
    for misread in HABITS.values():
        other = misread(task)
        if other is not None and rng.random() < habit:
            task = other
    text = answer(task, rng)
    if rng.random() < 0.6:
        text = f"{_opener(rng)} {text}"
    if rng.random() < 0.3:
        text = f"{text} {_closer(rng)}"
    return text


def _opener(rng: random.Random) -> str:
    return OPENERS[0] if rng.random() < 0.8 else rng.choice(OPENERS[1:])


def _closer(rng: random.Random) -> str:
    return CLOSERS[0] if rng.random() < 0.8 else rng.choice(CLOSERS[1:])


def demonstrations(n: int, seed: int, split: Split = "train", experts: float = 0.3) -> list[tuple[Prompt, str, str]]:
    """``n`` different prompts, each with one demonstration and who gave it (``expert`` or ``crowd``)."""
    rows = []
    for prompt in prompts(split, n, seed):
        rng = stream(seed, "demonstration", prompt.id)
        who = "expert" if rng.random() < experts else "crowd"
        text = (expert if who == "expert" else crowd)(parse(prompt.text), rng)
        rows.append((prompt, text, who))
    return rows


@dataclass(frozen=True)
class Annotator:
    """Prefers the first of two answers with probability ``lapse / 2 + (1 - lapse) * sigmoid(logit)``, where
    ``logit = sharpness * (difference in gold) + length * (in words) + fluff * (in fluff words) + position``.

    ``position`` is what being shown first is worth, in nats; 0 is no bias. ``lapse`` is the share of blind guesses.
    """

    sharpness: float = 8.0
    length: float = 0.0
    fluff: float = 0.0
    position: float = 0.0
    lapse: float = 0.0


def prefer(annotator: Annotator, prompt: Prompt, first: str, second: str, seed: int) -> tuple[float, int]:
    """(probability that the first is preferred, choice: 0 for the first, 1 for the second)."""
    one, two = verify(prompt, first), verify(prompt, second)
    logit = (
        annotator.sharpness * (one.gold - two.gold)
        + annotator.length * (one.words - two.words)
        + annotator.fluff * (one.fluff - two.fluff)
        + annotator.position
    )
    p_first = annotator.lapse / 2 + (1 - annotator.lapse) * _sigmoid(logit)
    rng = stream(seed, "prefer", f"{prompt.id}\x1f{first}\x1f{second}")
    return p_first, int(rng.random() >= p_first)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


@dataclass(frozen=True)
class AdversarialPair:
    """Two answers as shown: one right but plain, one wrong but polished. ``better`` is 0 or 1: which is right."""

    prompt: Prompt
    first: str
    second: str
    better: int
    habit: str


def adversarial_pairs(n: int, seed: int, split: Split = "heldout") -> list[AdversarialPair]:
    """``n`` pairs on different prompts; the wrong answer follows one habit, named in the pair, and is well dressed."""
    found = distinct(split, stream(seed, "adversarial prompts", split))
    return list(islice((pair for task in found if (pair := _adversarial(task, split, seed))), n))


def _adversarial(task: Task, split: Split, seed: int) -> AdversarialPair | None:
    misread = {name: other for name, habit in HABITS.items() if (other := habit(task)) is not None}
    if not misread:
        return None
    rng = stream(seed, "adversarial", task.key())
    name = rng.choice(sorted(misread))
    right = answer(task, rng)
    wrong = f"{rng.choice(OPENERS)} {answer(misread[name], rng)} {rng.choice(CLOSERS)}"
    better = rng.randrange(2)
    first, second = (right, wrong) if better == 0 else (wrong, right)
    return AdversarialPair(as_prompt(task, split), first, second, better, name)
