"""The records that everything else passes around. Frozen, content-addressed, JSON in and out.

Joining is always by id, never by row: a :class:`Prompt` is known by the hash of its messages, a :class:`Response` by
the hash of what it answers, what it says, who said it and which draw it is, a judgement by the hash of all it states.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from pippin.core.errors import InputError

T = TypeVar("T")
Role = Literal["system", "user", "assistant"]


def canonical(value: Any) -> str:
    """``value`` as canonical JSON: sorted keys, no spaces, UTF-8 kept. Equal content gives equal text.

    Numbers are written by value, as in RFC 8785: temperatures 0 and 0.0 are one. ValueError where one is not finite.
    """
    return json.dumps(_by_value(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def digest(value: Any, length: int = 16) -> str:
    """The first ``length`` hex digits of the SHA-256 of :func:`canonical` of ``value``."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()[:length]


def plain(value: Any) -> Any:
    """What ``json.dumps(default=plain)`` asks for: records as dicts, sets as sorted lists, numpy scalars as numbers."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    item = getattr(value, "item", None)
    return item() if item else str(value)


def _by_value(value: Any) -> Any:
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, (dict, Mapping)):  # dict first: the check of an abstract class is slow
        return {key: _by_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_by_value(item) for item in value]
    return _by_value(plain(value))


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


Messages = tuple[Message, ...]


def user(text: str) -> Messages:
    """A conversation of one user turn."""
    return (Message("user", text),)


def assistant(text: str) -> Messages:
    """A conversation of one assistant turn."""
    return (Message("assistant", text),)


@dataclass(frozen=True)
class Prompt:
    """What is asked. ``id`` comes from the messages and follow-ups alone: the same question is the same prompt."""

    messages: Messages
    follow_ups: Messages = ()  # later user turns, sent after each answer
    source: str = ""
    reference: str | None = None
    tags: tuple[str, ...] = ()
    id: str = ""

    def __post_init__(self) -> None:
        content = [[m.role, m.content] for m in self.messages]
        later = [[m.role, m.content] for m in self.follow_ups]
        object.__setattr__(self, "id", digest(["prompt", content, later]))

    @property
    def text(self) -> str:
        """The last user turn."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


@dataclass(frozen=True)
class Sampling:
    """How a response is drawn. ``temperature`` 0 is greedy. ``seed`` plus (purpose, row id) fixes every draw."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int = 0

    @property
    def decoding(self) -> str:
        return "greedy" if self.temperature == 0 else f"temperature {self.temperature:g}"


Stop = Literal["end", "length", "filter", "error", ""]


@dataclass(frozen=True)
class Response:
    """One answer to one prompt by one author. ``sample`` tells draws of the same text apart."""

    prompt_id: str
    messages: Messages
    by: str = ""
    sample: int = 0
    context: Messages | None = None  # what was really sent, where it differs from the prompt
    stop: Stop = ""
    sampling: Sampling | None = None
    id: str = ""

    def __post_init__(self) -> None:
        content = [[m.role, m.content] for m in self.messages]
        object.__setattr__(self, "id", digest(["response", self.prompt_id, content, self.by, self.sample]))

    @property
    def text(self) -> str:
        """The last assistant turn."""
        return next((m.content for m in reversed(self.messages) if m.role == "assistant"), "")


@dataclass(frozen=True)
class Key:
    """Which request a call answers: tells repeats, samples, orders and recordings apart."""

    subject: str  # id of the prompt, pair or response asked about
    role: str = "judge"  # judge, reference, metrics, respond, ...
    order: Literal["", "first", "swapped"] = ""
    turn: int = 0
    sample: int = 0


@dataclass(frozen=True)
class Request:
    """One thing to ask a model. ``labels`` asks for log-probabilities of these continuations instead of free text."""

    key: Key
    messages: Messages
    sampling: Sampling = Sampling(temperature=0.0)
    labels: tuple[str, ...] = ()
    model: str = ""  # filled by the engine from the role; empty means the judge's own model


@dataclass(frozen=True)
class Call:
    """One request answered once. A failed call is stored too: ``stop`` is ``error`` and ``error`` says why."""

    key: Key
    request: str  # digest of all that determines the answer: model, messages, sampling, labels
    model: str
    text: str = ""
    stop: Stop = ""
    error: str | None = None
    served_model: str = ""
    fingerprint: str = ""
    logprobs: Mapping[str, float] | None = None  # per label or first token
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    thinking_tokens: int | None = None
    price: float | None = None  # US dollars
    seconds: float | None = None

    @property
    def id(self) -> str:
        return digest(["call", vars(self.key), self.request])


class Outcome(StrEnum):
    """What a comparison can say. Closed: a failure is a value, never a result."""

    FIRST = "first"
    SECOND = "second"
    TIE = "tie"
    BOTH_BAD = "both_bad"
    ABSTAINED = "abstained"
    UNPARSED = "unparsed"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    FAILED = "failed"

    @property
    def decided(self) -> bool:
        return self in (Outcome.FIRST, Outcome.SECOND)

    @property
    def missing(self) -> bool:
        """No opinion was obtained (a tie is an opinion)."""
        return self not in (Outcome.FIRST, Outcome.SECOND, Outcome.TIE, Outcome.BOTH_BAD)

    def swap(self) -> Outcome:
        return {Outcome.FIRST: Outcome.SECOND, Outcome.SECOND: Outcome.FIRST}.get(self, self)


@dataclass(frozen=True)
class Choice:
    """A judge saw two responses, in this order, and said which is better."""

    prompt_id: str
    first: str  # response ids, in the order shown
    second: str
    outcome: Outcome
    by: str
    p_first: float | None = None  # probability that the first is better, where the judge gives one
    strength: float | None = None
    calls: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    parser: str = ""
    kind: Literal["choice"] = "choice"

    @property
    def id(self) -> str:
        return digest(vars(self))

    def swap(self) -> Choice:
        """The same statement with the responses named the other way round (not a second opinion)."""
        p = None if self.p_first is None else 1.0 - self.p_first
        return Choice(
            self.prompt_id, self.second, self.first, self.outcome.swap(), self.by, p, self.strength, self.calls,
            self.parents, self.parser,
        )  # fmt: skip

    def credit(self, response_id: str) -> float | None:
        """1, ½ or 0 to ``response_id``; None where the outcome is missing."""
        if self.outcome.missing:
            return None
        if not self.outcome.decided:
            return 0.5
        return float((self.first if self.outcome is Outcome.FIRST else self.second) == response_id)


@dataclass(frozen=True)
class Ranking:
    """A judge ordered several responses. ``ranks`` are per response as shown, 1 is best, equal ranks are ties."""

    prompt_id: str
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    by: str
    outcome: Outcome | None = None  # set, with empty ranks, where no ranking was obtained
    calls: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    parser: str = ""
    kind: Literal["ranking"] = "ranking"

    @property
    def id(self) -> str:
        return digest(vars(self))


@dataclass(frozen=True)
class Score:
    """A judge gave one response a number. ``value`` is None exactly where ``outcome`` says why there is none."""

    prompt_id: str
    response: str
    value: float | None
    by: str
    criterion: str = "overall"
    scale: tuple[float, float] | None = None
    spans: tuple[tuple[int, int, float], ...] = ()  # characters from, to, value
    outcome: Outcome | None = None
    calls: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    parser: str = ""
    kind: Literal["score"] = "score"

    @property
    def id(self) -> str:
        return digest(vars(self))


@dataclass(frozen=True)
class Note:
    """A judge said something in words about one or more ids: feedback, a critique, an explanation."""

    prompt_id: str
    about: tuple[str, ...]
    text: str
    by: str
    calls: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    kind: Literal["note"] = "note"

    @property
    def id(self) -> str:
        return digest(vars(self))


Judgement = Choice | Ranking | Score | Note


@dataclass(frozen=True)
class Group:
    """A prompt, its responses and what was said of them: the unit of storage, batching and resampling (the cluster)."""

    prompt: Prompt
    responses: tuple[Response, ...] = ()
    judgements: tuple[Judgement, ...] = ()


@dataclass(frozen=True)
class Preference:
    """Derived: response ``i`` of a group is better than ``j`` with ``probability``; counts ``weight``."""

    i: int
    j: int
    probability: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True)
class Judge:
    """Who judged: a name, the hash of its whole configuration, and the models it used by role."""

    name: str
    config: str = ""
    models: Mapping[str, str] = field(default_factory=dict)


Scope = Literal["these runs", "the method"]


@dataclass(frozen=True)
class Estimate:
    """The only number that a report prints: a value with an interval, and what it is a statement about.

    ``scope`` says what was treated as random: ``these runs`` (prompts only), ``the method`` (prompts and training
    seeds; five seeds or more an arm). ``missing`` counts units without a value; ``low`` and ``high`` are NaN-free.
    """

    value: float
    low: float
    high: float
    n: int
    clusters: int
    method: str
    unit: str = ""
    missing: int = 0
    level: float = 0.95
    scope: Scope = "these runs"
    p: float | None = None

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@cache
def _adapter(cls: type) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def to_row(record: Any) -> dict[str, Any]:
    """A record as a plain dict that JSON takes, less fields equal to their defaults; ``id`` and ``kind`` are kept."""
    row = _adapter(type(record)).dump_python(record, mode="json", exclude_defaults=True)
    row.update({name: value for name in ("kind", "id") if (value := getattr(record, name, None)) is not None})
    return row


def from_row(cls: type[T], row: Mapping[str, Any], *, where: str = "") -> T:
    """A record from a plain dict. The id is computed anew; a stored id that differs is an error, not a surprise later.

    Raises:
        InputError: a key is missing, unknown or of the wrong type, or the row's id is not the id of its content.
    """
    names = {f.name for f in fields(cls)}  # pyright: ignore[reportArgumentType]
    unknown = set(row) - names - {"id"}
    if unknown:
        raise InputError(f"unknown key {sorted(unknown)[0]!r} in a {cls.__name__}", where=where, expected=sorted(names))
    try:
        record = _adapter(cls).validate_python({k: v for k, v in row.items() if k != "id"})
    except ValidationError as error:
        first = error.errors()[0]
        what = f"bad {cls.__name__}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise InputError(what, where=where, found=first.get("input")) from None
    stored = row.get("id")
    if stored and stored != getattr(record, "id", stored):
        raise InputError(f"the id of this {cls.__name__} is not the id of its content", where=where, found=stored,
                         expected=record.id, mend="Remove the id, or restore the row")  # fmt: skip
    return record
