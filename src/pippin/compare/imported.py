"""Answers made elsewhere as an arm of a study: joined to the study's test prompts, counted where they do not meet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pippin.compare import folders, inputs, outside
from pippin.compare.outside import Answer, External
from pippin.core.errors import InputError
from pippin.core.run import file_digest
from pippin.core.types import Prompt, digest
from pippin.data import files
from pippin.data.rows import SUFFIXES

if TYPE_CHECKING:
    from pippin.core.store import Store

Json = dict[str, Any]
NOT_DECLARED = "not declared"
_LOADED = (".json", ".safetensors", ".jinja", ".model", ".txt")
"""Endings of what is loaded of a model folder; an optimiser's state beside it changes no answer."""
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Joined:
    """Answers under the prompts they were joined to, in the order of the prompts.

    ``by_text`` prompts were found by their text alone; ``missing`` prompts have no answer; ``unused`` answers have no
    prompt.
    """

    answers: tuple[Answer, ...]
    by_text: int
    missing: tuple[str, ...]  # prompt ids
    unused: int

    @property
    def notes(self) -> list[str]:
        """What a reader should know, in sentences; empty where all met by id."""
        asked = len(self.missing) + len({a.prompt.id for a in self.answers})
        told = (
            (self.by_text, f"{self.by_text} of {asked} prompts were found by their text, not by their id"),
            (len(self.missing), f"{len(self.missing)} of {asked} prompts have no answer"),
            (self.unused, f"{self.unused} answers are to other prompts"),
        )
        return [sentence for count, sentence in told if count]


def join(answers: Iterable[Answer], prompts: Sequence[Prompt]) -> Joined:
    """Answers to their prompts: by id, else by the text of the last user turn, white space and case aside.

    A text that several prompts share joins nothing. Answers without a text are unused.
    """
    by_id = {p.id: p for p in prompts}
    texts: dict[str, Prompt | None] = {}
    for prompt in by_id.values():
        text = normalised(prompt)
        texts[text] = None if text in texts else prompt
    found: dict[str, list[Answer]] = {}
    by_text: set[str] = set()
    unused = 0
    for answer in answers:
        prompt = by_id.get(answer.prompt.id) or texts.get(normalised(answer.prompt))
        if prompt is None or not answer.response.messages:
            unused += 1
            continue
        if prompt.id != answer.prompt.id:
            by_text.add(prompt.id)
        found.setdefault(prompt.id, []).append(under(prompt, answer))
    made = [answer for p in by_id.values() for answer in found.get(p.id, [])]
    missing = tuple(key for key in by_id if key not in found)
    return Joined(outside.numbered(made), len(by_text), missing, unused)


def normalised(prompt: Prompt) -> str:
    """The last user turn with white space and case evened out."""
    return _SPACE.sub(" ", prompt.text).strip().casefold()


def under(prompt: Prompt, answer: Answer) -> Answer:
    """The answer as one to ``prompt``; what was really asked stays as its context where it differs."""
    if prompt.id == answer.prompt.id:
        return answer
    asked = answer.response.context or answer.prompt.messages
    context = asked if asked != prompt.messages else None
    return replace(answer, prompt=prompt, response=replace(answer.response, prompt_id=prompt.id, context=context))


def read_arm(path: str) -> External:
    """What an external arm's ``path`` holds: as :func:`outside.read_external`, or a model by its name (``hf/...``).

    Raises:
        InputError: as :func:`outside.read_external`.
    """
    like_a_path = path.startswith((".", "/", "~")) or path.lower().removesuffix(".gz").endswith((*SUFFIXES, ".eval"))
    if outside.find(path) is None and not like_a_path and not Path(path).exists():
        return External("model", path)
    return outside.read_external(path)


def fingerprint(path: str) -> str:
    """What determines a model or recorded answers: what is loaded of a folder, and the base that an adapter stands on.

    Raises:
        InputError: as :func:`outside.read_external`, or a path that does not exist.
    """
    found = outside.find(path)
    if found is None or outside.gives(path) == "answers":
        return inputs.fingerprint(path if found is None else str(found[1]))
    external = outside.read_external(path)
    policy = Path(external.policy or path)
    if policy.is_file():
        return inputs.fingerprint(str(policy))
    loaded = [file for file in sorted(policy.iterdir()) if file.suffix in _LOADED and file.is_file()]
    own = digest([[file.name, file_digest(file)] for file in loaded])
    adapted = (policy / folders.ADAPTER).is_file() and external.manifest.get("base")
    return digest([own, fingerprint(str(adapted))]) if adapted else own


def import_answers(spec: Mapping[str, Any], store: Store, folder: Path, report: Callable[..., None] | None) -> Json:
    """The work of a cell of kind ``import``: the recorded answers to the test prompts, as ``respond`` leaves them.

    Args:
        spec: ``path`` and ``prompts``.

    Raises:
        InputError: it holds no answers, or none to these prompts.
    """
    external = read_arm(spec["path"])
    if external.policy is not None:
        raise InputError("a model, not recorded answers", where=spec["path"], mend="Let it answer: it is a policy")
    prompts = inputs.read_prompts(spec["prompts"], 0)
    joined = join(external.answers, prompts)
    if not joined.answers:
        raise InputError(
            "answers none of the test prompts", where=spec["path"], found=external.answers[0].prompt.text[:80],
            expected=prompts[0].text[:80], mend="Prompts are joined by id, else by the text of the last user turn",
        )  # fmt: skip
    files.write_responses(folder / "responses.jsonl", ((a.prompt, a.response) for a in joined.answers))
    stops = [a.response.stop for a in joined.answers]
    return {
        "mean_length": None,  # in tokens, of a tokenizer that is not here
        "share_without_end": sum(s != "end" for s in stops) / len(stops) if all(stops) else None,
        "lengths": {},
        "manifest": dict.fromkeys(("template", "tokenizer", "weights", "precision of answers"), NOT_DECLARED),
        "declared": external.manifest,
        "kind": external.kind,
        "prompts": len(prompts),
        "missing": list(joined.missing),
        "notes": [*external.notes, *joined.notes],
    }
