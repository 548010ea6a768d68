"""One side of a comparison of two: a response file, a model, a checkpoint or a run, as responses to prompts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pippin.core.errors import InputError, UnknownName
from pippin.core.types import Prompt, Response, Sampling
from pippin.data import files
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
    """Whether ``name`` is a file of rows (by its ending), and not a model."""
    return name.lower().removesuffix(".gz").endswith(SUFFIXES)


def read_file(name: str) -> Side:
    """The responses of a file.

    Raises:
        InputError: no such file, no row, or a row without a response.
    """
    return Side(name, tuple(files.read_responses(Path(name).expanduser())))


def find_model(name: str) -> Answers:
    """The model of a name or path; a run's folder is a model too.

    Raises:
        InputError, UnknownName: there is none.
    """
    from pippin.lm import models

    try:
        return models.resolve(name)
    except UnknownName:
        if not Path(name).exists():
            raise
        return models.resolve(f"./{name}")  # a path typed without its ./


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
    return Side(name, told.rows, sampling, len(told.failed), told.failed[0][2] if told.failed else "")


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
    for label, side in zip(("V1", "V2"), sides, strict=True):
        stakes = _stakes(Path(side.name).expanduser() / RUN)
        found += [f"the judge {spec} {role} in {label}'s training" for role, name in stakes.items() if name == spec]
        kin = sorted({m for m in judge.info.models.values() if _family(m) and _family(m) == _family(side.name)})
        if kin:
            found.append(f"the judge {kin[0]} is of {label}'s family")
        if side.failed:
            found.append(f"{label} gave no answer to {side.failed} requests: {side.why}")
    return found


def _stakes(file: Path) -> dict[str, str]:
    """The judges that had a part in the training of a run: what they did, and their names."""
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))["manifest"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # not a run of this project: nothing is declared
    if not isinstance(manifest, dict):
        return {}
    roles = {"reward": "gave the reward", "judge.dev": "chose settings or checkpoints"}
    return {done: manifest[key] for key, done in roles.items() if isinstance(manifest.get(key), str)}


def _family(name: str) -> str:
    """``gpt`` of ``openai/gpt-4o-mini``: the model's name up to its first digit or dash; empty for files and paths."""
    if name.startswith((".", "/", "~")) or is_file(name):
        return ""
    last = name.partition("@")[0].rpartition("/")[2].lower()
    found = re.match(r"[a-z]{3,}", last)
    return found.group() if found else ""


def required(side: Side, label: str) -> Side:
    """``side``, or an InputError where it has no response at all."""
    if not side.rows:
        raise InputError(f"{label} has no response", where=side.name, found=side.why or None)
    return side
