"""The space of instructions: what can be asked, how it is worded, and which split it belongs to.

The grammar is invertible: ``parse(render(task)) == task``, so whoever has a prompt's text has the whole task.

==========  ==========================================  ======================================================
skill       operations (wording)                         constraints that may stand beside it
==========  ==========================================  ======================================================
list        list (``list three animals``)                start or order, include, avoid, separator, end
transform   ascending, descending, reverse, copy, twice  separator, end
filter      keep, drop (``keep the animals : ...``)      separator, end
count       count (``count the animals : ...``)          form (digit or word), end
==========  ==========================================  ======================================================
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Prompt, user
from pippin.world.lexicon import CATEGORIES, CATEGORY_OF, ENDS, NUMBERS, SEPARATORS, WORDS

Split = Literal["train", "dev", "heldout", "heldout_skills"]
SPLITS: tuple[Split, ...] = ("train", "dev", "heldout", "heldout_skills")

OPERATIONS: dict[str, tuple[str, ...]] = {
    "list": ("list",),
    "transform": ("ascending", "descending", "reverse", "copy", "twice"),
    "filter": ("keep", "drop"),
    "count": ("count",),
}
SKILL_OF: dict[str, str] = {operation: skill for skill, names in OPERATIONS.items() for operation in names}
SHARES: dict[str, float] = {"list": 0.40, "transform": 0.32, "filter": 0.18, "count": 0.10}
"""How often each skill is drawn."""

VERBS: dict[str, str] = {
    "ascending": "sort from a to z",
    "descending": "sort from z to a",
    "reverse": "reverse",
    "copy": "copy",
    "twice": "write twice",
}
CLAUSES: dict[str, str] = {
    "start": "starting with {}",
    "include": "including {}",
    "avoid": "avoiding {}",
    "order": "from {}",
    "form": "as a {}",
    "separator": "separated by {}",
    "end": "ending in a {}",
}
"""Wording of each constraint, in the canonical order."""
ORDERS: dict[str, str] = {"az": "a to z", "za": "z to a"}
FORMS: tuple[str, ...] = ("digit", "word")

# Pairs of features that are asked for only in ``heldout_skills``: each half is common elsewhere, the pair never occurs.
RESERVED: tuple[tuple[str, str], ...] = (
    ("descending", "separator=pluses"),
    ("ascending", "end=star"),
    ("reverse", "separator=slashes"),
    ("drop", "end=bang"),
    ("order=za", "separator=dashes"),
    ("include", "end=star"),
    ("form=digit", "end=bang"),
)


@dataclass(frozen=True)
class Task:
    """One instruction. ``constraints`` are (name, value) in the order of :data:`CLAUSES`; unused fields are empty."""

    operation: str
    category: str = ""
    number: int = 0
    words: tuple[str, ...] = ()
    constraints: tuple[tuple[str, str], ...] = ()

    @property
    def skill(self) -> str:
        return SKILL_OF[self.operation]

    def get(self, constraint: str) -> str:
        """The value of ``constraint``, or the empty string."""
        return dict(self.constraints).get(constraint, "")

    def put(self, **constraints: str) -> Task:
        """The task with constraints added, replaced or, where the value is empty, removed."""
        values = {**dict(self.constraints), **constraints}
        kept = tuple((name, values[name]) for name in CLAUSES if values.get(name))
        return Task(self.operation, self.category, self.number, self.words, kept)

    def key(self) -> str:
        """Canonical content: equal exactly for equal tasks."""
        return render(self)

    def tags(self) -> tuple[str, ...]:
        """Skill, operation and constraint names, each as ``kind:name``."""
        names = tuple(f"constraint:{name}" for name, _ in self.constraints)
        return (f"skill:{self.skill}", f"operation:{self.operation}", *names)


def stream(seed: int, purpose: str, row: object) -> random.Random:
    """The generator of one row: depends on these three alone, never on the order of rows or on a batch."""
    digest = hashlib.sha256(f"{seed}\x1f{purpose}\x1f{row}".encode("utf-8", "surrogatepass")).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def render(task: Task) -> str:
    """The instruction's text."""
    if task.skill == "list":
        head = f"list {NUMBERS[task.number]} {task.category}"
    elif task.skill == "transform":
        head = VERBS[task.operation]
    else:
        head = f"{task.operation} the {task.category}"
    clauses = [CLAUSES[name].format(ORDERS.get(value, value)) for name, value in task.constraints]
    tail = [":", *task.words] if task.words else []
    return " ".join([head, *clauses, *tail])


def parse(text: str) -> Task:
    """The task that :func:`render` writes as ``text``.

    Raises:
        InputError: ``text`` is not an instruction of this world.
    """
    head, _, operands = " ".join(text.split()).partition(" : ")
    operation, category, number, rest = _head(head)
    constraints: dict[str, str] = {}
    while rest:
        name, value, rest = _clause(rest)
        constraints[name] = value
    task = Task(operation, category, number, tuple(operands.split())).put(**constraints)
    if render(task) != " ".join(text.split()) or not all(word in CATEGORY_OF for word in task.words):
        raise _unreadable(text)
    return task


def _head(text: str) -> tuple[str, str, int, list[str]]:
    parts = text.split()
    for operation, verb in VERBS.items():
        size = len(verb.split())
        if parts[:size] == verb.split():
            return operation, "", 0, parts[size:]
    if len(parts) >= 3 and parts[2] in CATEGORIES:
        if parts[0] == "list" and parts[1] in NUMBERS:
            return "list", parts[2], NUMBERS.index(parts[1]), parts[3:]
        if parts[0] in ("keep", "drop", "count"):
            return parts[0], parts[2], 0, parts[3:]
    raise _unreadable(text)


def _clause(parts: list[str]) -> tuple[str, str, list[str]]:
    for name, wording in CLAUSES.items():
        lead = wording.split()[:-1]
        size = len(lead) + (3 if name == "order" else 1)
        if parts[: len(lead)] == lead and len(parts) >= size:
            value = " ".join(parts[len(lead) : size])
            value = next((short for short, long in ORDERS.items() if long == value), value)
            if value in _values(name):
                return name, value, parts[size:]
    raise _unreadable(" ".join(parts))


def _values(constraint: str) -> Mapping[str, str] | tuple[str, ...]:
    closed = {"order": ORDERS, "form": FORMS, "separator": SEPARATORS, "end": ENDS}
    return closed.get(constraint, CATEGORY_OF)


def _unreadable(text: str) -> InputError:
    return InputError("not an instruction of the embedded world", found=text, expected="list three animals")


def draw(rng: random.Random, shares: Mapping[str, float] = SHARES) -> Task:
    """A random task, of any split."""
    skill = rng.choices(list(shares), list(shares.values()))[0]
    if skill == "list":
        return _draw_list(rng)
    if skill == "transform":
        operation = rng.choice(OPERATIONS["transform"])
        words = rng.sample(WORDS, rng.randint(2, 3 if operation == "twice" else 5))
        task = Task(operation, words=tuple(words))
    else:
        task = _draw_selection(rng, skill)
    if skill == "count":
        task = task.put(form=rng.choice(("", *FORMS)))
    elif rng.random() < 0.6 and len(select(task)) > 1:
        task = task.put(separator=rng.choice(list(SEPARATORS)))
    return task.put(end=_draw_end(rng))


def select(task: Task) -> tuple[str, ...]:
    """The words that the task is about: all of them, those of the category, or for ``drop`` the others."""
    if not task.category:
        return task.words
    return tuple(word for word in task.words if (CATEGORY_OF[word] == task.category) is (task.operation != "drop"))


def _draw_end(rng: random.Random) -> str:
    return rng.choice(list(ENDS)) if rng.random() < 0.5 else ""


def _draw_list(rng: random.Random) -> Task:
    category = rng.choice(list(CATEGORIES))
    included, avoided = rng.sample(CATEGORIES[category], 2)
    chance = rng.random()
    values = {
        "order": rng.choice(list(ORDERS)) if chance < 0.5 else "",
        "start": included if chance > 0.8 else "",
        "include": included if chance < 0.8 and rng.random() < 0.45 else "",
        "avoid": avoided if rng.random() < 0.4 else "",
        "separator": rng.choice(list(SEPARATORS)) if rng.random() < 0.6 else "",
        "end": _draw_end(rng),
    }
    task = Task("list", category, rng.randint(2, 4)).put(**values)
    # a list with fewer than two constraints leaves so few instructions that they would recur all the time
    return task if len(task.constraints) >= 2 else _draw_list(rng)


def _draw_selection(rng: random.Random, skill: str) -> Task:
    """Keep, drop or count: three to six words, of which one to all but one belong to the category (none, for count)."""
    category = rng.choice(list(CATEGORIES))
    size = rng.randint(3, 6)
    members = rng.randint(0 if skill == "count" else 1, size - 1)
    others = [word for word in WORDS if CATEGORY_OF[word] != category]
    words = rng.sample(CATEGORIES[category], members) + rng.sample(others, size - members)
    rng.shuffle(words)
    return Task(rng.choice(OPERATIONS[skill]), category, words=tuple(words))


def split_of(task: Task) -> Split:
    """Where ``task`` belongs: reserved combinations apart, then 70 / 10 / 20 by a hash of the canonical content."""
    features = {task.operation, *(name for name, _ in task.constraints), *("=".join(c) for c in task.constraints)}
    if any(first in features and second in features for first, second in RESERVED):
        return "heldout_skills"
    share = int.from_bytes(hashlib.sha256(task.key().encode()).digest()[:4], "big") / 2**32
    return "train" if share < 0.7 else "dev" if share < 0.8 else "heldout"


def distinct(split: Split, rng: random.Random) -> Iterator[Task]:
    """Different tasks of ``split``, without end.

    Raises:
        UnknownName: there is no such split.
    """
    if split not in SPLITS:
        raise UnknownName("split", split, SPLITS)
    seen: set[str] = set()
    while True:
        task = draw(rng)
        if split_of(task) == split and task.key() not in seen:
            seen.add(task.key())
            yield task


def prompts(split: Split, n: int, seed: int) -> list[Prompt]:
    """``n`` different prompts of ``split``. A smaller ``n`` gives a prefix of the same list.

    Raises:
        UnknownName: there is no such split.
    """
    return [as_prompt(task, split) for task in islice(distinct(split, stream(seed, "prompts", split)), n)]


def as_prompt(task: Task, split: str = "") -> Prompt:
    """The record of ``task``, with its skill, operation, constraints and split as tags."""
    tags = (*task.tags(), f"split:{split}") if split else task.tags()
    return Prompt(user(render(task)), source="world", tags=tags)
