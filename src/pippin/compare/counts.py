"""What a cell will do, counted before it is done: steps, tokens, draws, verdicts.

Counts come from a cell's specification, the rows that it names (read and tokenised here) and the settings of its
method. What only the run can tell is taken so: a policy trained on demonstrations answers as long as those, any other
as long as the one that it starts from, a model as it is as long as a :class:`Scene` is told; one pair in ten of a
prompt's answers is equal; a method that keeps some of what it draws keeps what its settings say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from pippin.compare import inputs
from pippin.compare.cells import CELL, Cell
from pippin.core import catalog

Json = dict[str, Any]
BATCH = 256  # rows that are decoded together
LONGEST = 4.0  # of a batch of draws, in mean lengths
WHOLE = 2.0  # reading a token for its whole distribution, against its own probability
UNTIED = 0.9  # of the pairs of a prompt's answers
CHARACTERS = 4  # of a token, where a model's tokenizer is not at hand
PROGRAMS = ("gold", "rule", "python", "recorded", "simulated", "person")
READERS = ("rm", "reward_model", "implicit")
RECORDED = 512  # tokens of a recorded answer, at most
SAMPLE = 200  # rows of a source that are tokenised


class Asked(NamedTuple):
    """Verdicts of a judging model: ``number`` of texts to score or pairs to compare, with the tokens of each."""

    judge: str
    kind: Literal["score", "compare"]
    number: float
    read: float
    response: float


@dataclass
class Counts:
    """What is done. Tokens of the policy and of whatever reads them; no unit is a cost by itself."""

    loads: float = 0  # models read from a folder
    rows: float = 0  # prompts and responses read from a source and tokenised
    runs: float = 0
    steps: float = 0  # of the optimiser, for each trained network
    trained: float = 0  # tokens forward and backward, as they are computed: a prompt that rows share is read once
    forward: float = 0  # tokens read
    passes: float = 0  # decoding steps of batches
    drawn: float = 0  # tokens
    scored: float = 0  # texts by a program
    compared: float = 0  # pairs by a program
    gradient_tokens: float = 0  # as the ledger counts them
    labels: float = 0
    asked: list[Asked] = field(default_factory=list)

    def add(self, **more: float) -> None:
        """Add to the named counts."""
        for name, count in more.items():
            setattr(self, name, getattr(self, name) + count)

    def numbers(self) -> dict[str, float]:
        """Every count by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "asked"}


@dataclass(frozen=True)
class Rows:
    """A source of prompts or data: prompts, responses and judgements of a prompt, mean tokens of each."""

    prompts: int
    prompt: float
    responses: float = 0.0  # of a prompt
    judgements: float = 0.0
    response: float = 0.0


class Model:
    """A model that answers or trains: parameters and tokenizer, where its folder is at hand; no weights are read."""

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def parameters(self) -> int | None:
        """How many; None where it cannot be known without fetching or converting it."""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        if self._folder is None or not (self._folder / "config.json").is_file():
            return None
        with torch.device("meta"):
            made = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(self._folder))
        return sum(p.numel() for p in made.parameters())

    def prompt(self, prompt: Any) -> int:
        """Tokens of a prompt."""
        if self._chat is None:
            return math.ceil(sum(len(m.content) for m in prompt.messages) / CHARACTERS)
        return len(self._chat.prompt_ids(prompt.messages))

    def response(self, prompt: Any, text: str) -> int:
        """Tokens of a response, its end among them."""
        if self._chat is None:
            return 1 + math.ceil(len(text) / CHARACTERS)
        return sum(self._chat.example(prompt.messages, text)[1])

    @cached_property
    def _folder(self) -> Any:
        from pippin.core.errors import PippinError
        from pippin.lm.hf import locate

        try:
            place = locate(self.name)
        except PippinError:
            return None
        return place if place.is_dir() else None

    @cached_property
    def _chat(self) -> Any:
        from transformers import AutoTokenizer

        from pippin.lm.chat import Chat

        if self._folder is None or not (self._folder / "tokenizer_config.json").is_file():
            return None
        return Chat(AutoTokenizer.from_pretrained(self._folder))


class Scene:
    """All cells of a study, and what they name, each read once.

    Args:
        length: tokens of a response of the world's model as it is.
    """

    def __init__(self, cells: Mapping[str, Cell], length: float) -> None:
        self.cells, self.base_length = cells, length
        self._models: dict[str, Model] = {}
        self._rows: dict[tuple[str, str, bool], Rows] = {}

    def count(self, cell: Cell) -> Counts:
        """What a cell does.

        Raises:
            InputError: a file that it names cannot be read.
        """
        made = Counts()
        getattr(self, f"_{cell.kind}")(made, cell.spec)
        return made

    def model(self, policy: str) -> Model:
        """The model as it was before any training behind a policy."""
        name = self.origin(policy)
        return self._models.setdefault(name, Model(name))

    def origin(self, policy: str) -> str:
        """The name of that model."""
        found = CELL.search(policy)
        if not found:
            return policy
        spec = self.cells[found[1]].spec
        return self.origin(spec["model"] if "model" in spec else spec["policy"])

    def length(self, policy: str, limit: float) -> float:
        """Tokens of a policy's response, of at most ``limit``."""
        found = CELL.search(policy)
        if not found:
            usual = self.base_length if policy.startswith("world/") else limit / 2
            return min(limit, usual)
        spec = self.cells[found[1]].spec
        method = catalog.load("methods", spec["method"])
        if method.reads == "demonstrations" and spec["data"]:
            return min(limit, self.data(spec["data"], spec["model"]).response or limit / 2)
        return self.length(spec["model"], limit)

    def prompts(self, name: str, policy: str) -> Rows:
        """Prompts of a source, in tokens of a policy's model."""
        key = (name, self.origin(policy), False)
        if key not in self._rows:
            model, read = self.model(policy), inputs.read_prompts(name, 0)
            lengths = [model.prompt(p) for p in read[:SAMPLE]]
            self._rows[key] = Rows(len(read), float(np.mean(lengths)) if lengths else 0.0)
        return self._rows[key]

    def data(self, name: str, policy: str) -> Rows:
        """Data of a source, or of a feedback cell."""
        found = CELL.search(name)
        if found:
            spec = self.cells[found[1]].spec
            rows, n = self.prompts(spec["prompts"], spec["policy"]), spec["n"]
            length = self.length(spec["policy"], spec["max_tokens"])
            return Rows(rows.prompts, rows.prompt, n, UNTIED * n * (n - 1) / 2, length)
        key = (name, self.origin(policy), True)
        if key not in self._rows:
            model, read = self.model(policy), inputs.read_groups(name, 0)
            some = read[:SAMPLE]
            responses = [(g.prompt, r.text) for g in some for r in g.responses]
            self._rows[key] = Rows(
                len(read),
                float(np.mean([model.prompt(g.prompt) for g in some])) if some else 0.0,
                sum(len(g.responses) for g in read) / max(1, len(read)),
                sum(len(g.judgements) for g in read) / max(1, len(read)),
                float(np.mean([model.response(p, t) for p, t in responses])) if responses else 0.0,
            )
        return self._rows[key]

    # One kind of cell each

    def _respond(self, made: Counts, spec: Json) -> None:
        rows, limit = self.prompts(spec["prompts"], spec["policy"]), spec["max_tokens"]
        if "before" in spec:  # the first of them are answered by then
            known = self.cells[CELL.findall(spec["before"])[0]].spec["prompts"]
            rows = replace(rows, prompts=rows.prompts - self.prompts(known, spec["policy"]).prompts)
        draws, reward = self._recipe(spec["policy"])
        made.add(loads=1, rows=rows.prompts * (1 + spec["n"]))
        self.draw(made, rows, spec["n"] * draws, self.length(spec["policy"], limit), limit)
        if reward:
            self.score(made, reward, rows, spec["n"] * draws, self.length(spec["policy"], limit))

    def _feedback(self, made: Counts, spec: Json) -> None:
        rows, n, limit = self.prompts(spec["prompts"], spec["policy"]), spec["n"], spec["max_tokens"]
        length = self.length(spec["policy"], limit)
        made.add(loads=1, rows=rows.prompts * (1 + n))
        self.draw(made, rows, n, length, limit)
        pairs = UNTIED * rows.prompts * n * (n - 1) / 2
        orders = 2 if spec["orders"] == "both" else 1
        self.compare(made, spec["judge"], rows, pairs * orders / 2, length)

    def _import(self, made: Counts, spec: Json) -> None:
        made.add(rows=2 * self.prompts(spec["prompts"], spec["path"]).prompts)

    def _judge(self, made: Counts, spec: Json) -> None:
        answered = {"n": 1, "max_tokens": RECORDED, **self.cells[CELL.findall(spec["responses"])[0]].spec}
        policy = answered.get("policy") or answered["path"]
        rows, length = self.prompts(spec["prompts"], policy), self.length(policy, answered["max_tokens"])
        made.add(rows=rows.prompts * answered["n"])
        if "against" in spec:
            self.compare(made, spec["judge"], rows, rows.prompts * answered["n"], length)
        else:
            self.score(made, spec["judge"], rows, answered["n"], length)

    def _kl(self, made: Counts, spec: Json) -> None:
        answered = self.cells[CELL.findall(spec["responses"])[0]].spec
        rows = self.prompts(spec["prompts"], spec["policy"])
        length = self.length(spec["policy"], answered["max_tokens"])
        made.add(loads=2, rows=2 * rows.prompts * answered["n"])
        if self._recipe(spec["policy"])[0] == 1:
            tokens = rows.prompts * answered["n"] * (rows.prompt + length)
            made.add(forward=2 * WHOLE * tokens)

    def _check(self, made: Counts, spec: Json) -> None:
        rows, limit = self.prompts(spec["prompts"], spec["policy"]), spec["max_tokens"]
        rows = Rows(min(rows.prompts, spec["limit"]), rows.prompt)
        length = self.length(spec["policy"], limit)
        made.add(loads=1, rows=rows.prompts)
        self.draw(made, rows, int(spec["n"]), length, limit)
        for judge in (spec.get("judge") or spec["reward"], spec["against"]):
            self.score(made, judge, rows, int(spec["n"]), length)

    _curve = _check

    def _train(self, made: Counts, spec: Json) -> None:
        from pippin.compare.training import count

        count(self, made, spec)

    # What they are made of

    def draw(self, made: Counts, rows: Rows, n: float, length: float, limit: float) -> None:
        """``n`` responses to each prompt."""
        total = rows.prompts * n
        longest = min(limit, LONGEST * length)
        made.add(passes=math.ceil(total / BATCH) * longest, drawn=total * length, forward=rows.prompts * rows.prompt)

    def score(self, made: Counts, judge: str, rows: Rows, n: float, length: float) -> None:
        """A number for each of ``n`` responses to each prompt."""
        total, head = rows.prompts * n, judge.partition("?")[0].partition("/")[0]
        if head in READERS:
            twice = 1 + (head == "implicit" or self._by_ratio(judge))
            made.add(loads=twice, forward=twice * total * (rows.prompt + length))
        elif head in PROGRAMS or head in catalog.names("judges"):
            made.add(scored=total)
        else:
            made.asked.append(Asked(judge, "score", total, rows.prompt + length, length))

    def compare(self, made: Counts, judge: str, rows: Rows, pairs: float, length: float) -> None:
        """A verdict on each pair, in both orders."""
        head = judge.partition("?")[0].partition("/")[0]
        if head in READERS:
            self.score(made, judge, rows, 2 * pairs / max(1, rows.prompts), length)
        elif head in PROGRAMS or head in catalog.names("judges"):
            made.add(compared=2 * pairs)
        else:
            made.asked.append(Asked(judge, "compare", pairs, rows.prompt + 2 * length, length))

    def _recipe(self, policy: str) -> tuple[int, str]:
        """(responses drawn for one that is given, what chooses among them) of a policy."""
        found = CELL.search(policy)
        spec = self.cells[found[1]].spec if found else {}
        if not spec or catalog.load("methods", spec["method"]).choose is None:
            return 1, ""
        candidates = spec["settings"].get("candidates", catalog.load("methods", spec["method"]).config().candidates)
        return max(candidates), spec["reward"] or ""

    def _by_ratio(self, judge: str) -> bool:
        """Whether a reward model reads its reference too."""
        found = CELL.search(judge)
        return bool(found) and self.cells[found[1]].spec["settings"].get("head") == "logratio"
