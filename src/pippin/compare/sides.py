"""One side of a comparison of two as responses to prompts: a response file, a log of another evaluation, a model, a
checkpoint or a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pippin.compare import folders, outside, stakes
from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Prompt, Response, Sampling
from pippin.data.respond import Rerank, own_sampling, respond
from pippin.data.rows import SUFFIXES

if TYPE_CHECKING:
    from pippin.core.store import Store
    from pippin.judge.judging import Judging
    from pippin.lm.protocols import Answers

RUN = "pippin_run.json"


@dataclass(frozen=True)
class Draw:
    """How a model is asked. What is None is the model's own recipe's."""

    n: int = 1
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int = 0

    def sampling(self, model: Answers) -> Sampling:
        """The model's own sampling with what is stated here."""
        stated = {k: v for k, v in asdict(self).items() if k != "n" and v is not None}
        return replace(own_sampling(model, self.seed), **stated)


@dataclass(frozen=True)
class Side:
    """Responses in the order of prompts. ``sampling`` is None for a file; ``failed`` counts unanswered requests."""

    name: str
    rows: tuple[tuple[Prompt, Response], ...]
    sampling: Sampling | None = None
    failed: int = 0
    why: str = ""  # the first failure
    notes: tuple[str, ...] = ()  # what a reader should know of where the responses come from

    @property
    def by_prompt(self) -> dict[str, list[Response]]:
        """The responses of each prompt, in their order."""
        found: dict[str, list[Response]] = {}
        for prompt, response in self.rows:
            found.setdefault(prompt.id, []).append(response)
        return found

    @property
    def prompts(self) -> list[Prompt]:
        return list({prompt.id: prompt for prompt, _ in self.rows}.values())


def is_file(name: str) -> bool:
    """Whether ``name`` holds responses (a file of rows, a log of another evaluation), and is not a model."""
    return _ends_as_rows(name) or outside.gives(name) == "answers"


def read_file(name: str) -> Side:
    """The responses of a file or a log; answers that a log has no text of are left out and counted.

    Raises:
        InputError: no such file, no row, or a row without a response.
    """
    found = outside.read_external(name)
    rows = tuple((a.prompt, a.response) for a in found.answers if a.response.messages)
    return Side(name, rows, notes=(*found.notes, *textless(len(found.answers) - len(rows))))


def textless(count: int) -> list[str]:
    """What is said of answers whose text was not logged."""
    return [f"{count} answers without a text were left out"] if count else []


def find_model(name: str) -> Answers:
    """The model of a name or path; a run's folder is a model too, and one with checkpoints is its last.

    Raises:
        InputError, UnknownName: there is none.
    """
    from pippin.lm import models

    place = _policy(name)[0]
    try:
        return models.resolve(place)
    except UnknownName:
        if not Path(place).exists():
            raise
        return models.resolve(f"./{place}")  # a path typed without its ./


def _policy(name: str) -> tuple[str, tuple[str, ...]]:
    """Where the weights of a folder lie, and what is to be said where that is not the folder itself."""
    if outside.gives(name) != "policy":
        return name, ()
    found = outside.read_external(name)
    if found.policy is None or Path(found.policy) == Path(name).expanduser():
        return name, ()
    return found.policy, tuple(note for note in found.notes if note != folders.NOT_OPENED)


def ask(
    name: str,
    model: Answers,
    prompts: Sequence[Prompt],
    draw: Draw,
    store: Store | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Side:
    """The responses of a model to these prompts; stored calls are not made again."""
    sampling = draw.sampling(model)
    told = respond(model, prompts, n=draw.n, sampling=sampling, store=store, rerank=reranker(model), progress=progress)
    why = told.failed[0][2] if told.failed else ""
    return Side(name, told.rows, sampling, len(told.failed), why, _policy(name)[1])


def reranker(model: Answers) -> Rerank | None:
    """What chooses among the candidates of a best-of-n recipe: the judge that the recipe names.

    Raises:
        InputError, UnknownName: that judge cannot be had.
    """
    recipe: Any = getattr(model, "decoding", None)
    if recipe is None or recipe.n == 1:
        return None
    from pippin.compare.work import reranker as of_recipe

    return of_recipe(model)  # type: ignore[arg-type] - what has a recipe is a policy


def cautions(sides: tuple[Side, Side], judge: Judging, spec: str) -> list[str]:
    """What a reader must know before believing the difference: unequal decoding, judges with a stake, lost answers."""
    found = []
    one, two = (side.sampling for side in sides)
    for what in ("decoding", "top_p", "max_tokens"):
        if one is not None and two is not None and getattr(one, what) != getattr(two, what):
            found.append(f"the decoding differs: {what} {getattr(one, what)} against {getattr(two, what)}")
    asks = not spec.startswith(stakes.WEIGHED)  # a reward model prefers no style of its own
    for label, side in zip(("V1", "V2"), sides, strict=True):
        for role, other in _parts(Path(side.name).expanduser() / RUN).items():
            if stakes.shared(spec, other):
                found.append(f"the judge {spec} {role} in {label}'s training")
        kin = [m for m in sorted({*judge.info.models.values()}) if asks and stakes.kin(m, [side.name])]
        if kin:
            found.append(f"the judge {kin[0]} is of {label}'s family")
        if side.failed:
            found.append(f"{label} gave no answer to {side.failed} requests: {side.why}")
        found += [f"{label}: {note}" for note in side.notes]
    return found


def _ends_as_rows(name: str) -> bool:
    return name.lower().removesuffix(".gz").endswith(SUFFIXES)


def _parts(file: Path) -> dict[str, str]:
    """The judges that had a part in the training of a run: what they did, and their names."""
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))["manifest"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # not a run of this project: nothing is declared
    if not isinstance(manifest, dict):
        return {}
    roles = {"reward": "gave the reward", "judge.dev": "chose settings or checkpoints"}
    return {done: manifest[key] for key, done in roles.items() if isinstance(manifest.get(key), str)}


def required(side: Side, label: str) -> Side:
    """``side``, or an InputError where it has no response at all."""
    if not side.rows:
        raise InputError(f"{label} has no response", where=side.name, found=side.why or None)
    return side
