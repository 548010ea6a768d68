"""Pippin within Inspect: its judges as the scorer ``pippin/judge``, and ``pippin/interval`` as a metric.

Inspect loads this module through the entry point ``inspect_ai``; nothing else does, so that Inspect is here. What a
judge could not say stays unsaid: the sample is unscored, with the reason, and never wrong.

Source: inspect_ai 0.3.285, ``scorer/_scorer.py``, ``scorer/_metric.py`` (protocols), ``Score.unscored``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    get_model,
)
from inspect_ai.scorer import (
    Metric,
    SampleScore,
    Score,
    Scorer,
    Target,
    Value,
    mean,
    metric,
    scorer,
    value_to_float,
)
from inspect_ai.solver import TaskState
from inspect_ai.util import LimitExceededError

from pippin import stats
from pippin.compare.scored import are_shares
from pippin.core import catalog
from pippin.core.errors import InputError, ModelError
from pippin.core.store import Store
from pippin.core.types import Call, Choice, Message, Messages, Prompt, Request, Response, assistant, user
from pippin.core.types import Score as Number
from pippin.judge.ask import Pair
from pippin.judge.judging import Judging, no_scores
from pippin.judge.resolve import resolve
from pippin.lm.engine import request_digest

GRADER = "inspect"
THREADS = 100  # samples that wait for an Inspect model at once
_PLACES = ("first", "second")
PAUSE = 0.05  # seconds in which more samples may join a batch
_STOPS = {"stop": "end", "max_tokens": "length", "model_length": "length", "content_filter": "filter"}
_SPOKEN = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}


# ---------------------------------------------------------------------- metric


@metric
def interval(level: float = 0.95, cluster: str | None = None, seed: int = 0) -> Metric:
    """The interval of the mean over samples, or over clusters of them: ``low``, ``high``, ``clusters``.

    Few, extreme or equal scores get an interval with the scores' ends; NaN where nothing tells one.

    Args:
        level: of confidence, two-sided.
        cluster: a key of the samples' metadata that names what belongs together; by default each sample.
        seed: of the resampling.

    Raises:
        InputError: a sample has no such key.

    Source: :func:`pippin.stats.mean`.
    """
    number = value_to_float()

    def measure(scores: list[SampleScore]) -> Value:
        ids = [_cluster(score, cluster, at) for at, score in enumerate(scores)]
        values = [number(score.score.value) for score in scores]
        if not values or (len(set(ids)) < 2 and not are_shares(values)):
            return {"low": float("nan"), "high": float("nan"), "clusters": len(set(ids))}
        support = (0.0, 1.0) if are_shares(values) else None
        made = stats.mean(values, ids, support=support, bootstrap=stats.Bootstrap(level=level, seed=seed))
        return {"low": made.low, "high": made.high, "clusters": made.clusters}

    return measure


def _cluster(score: SampleScore, key: str | None, at: int) -> str:
    if key is None:
        return str(at)
    found = (score.sample_metadata or {}).get(key)
    if found is None:
        raise InputError("a sample without the cluster's key", where=f"sample {score.sample_id}", expected=key,
                         mend="Add it to the samples' metadata")  # fmt: skip
    return str(found)


# ---------------------------------------------------------------------- scorer


@scorer(metrics=[mean(), interval()])
def judge(
    judge: str = "vanilla",
    against: str = "",
    model: str | Model | None = None,
    model_role: str = "grader",
    seed: int = 0,
) -> Scorer:
    """A judge of Pippin as a scorer.

    Without ``against`` it gives the answer a number (``judge="rating"``, ``rm/PATH``, ``python/FILE.py:f``). With it,
    the answer is compared with another in both orders: 1 won, 0 lost, 1/2 a tie or two orders that disagree.

    Args:
        judge: a strategy of ``pippin list strategies``, perhaps with ``?key=value``, asked of an Inspect model; or any
            judge as Pippin names it, which asks its own model and keeps what it said in Pippin's store.
        against: ``target``, or a key of the sample's metadata that holds the other answer.
        model: the Inspect model that judges; else the one of ``model_role``, else the one that is evaluated.
        model_role: as in Inspect's ``model_graded_qa``.
        seed: for judges that draw.

    Raises:
        InputError, UnknownName: no such judge.
    """
    name = judge.partition("?")[0]
    if name in catalog.names("strategies"):
        if not against and catalog.load("strategies", name).rate is None:
            raise no_scores(name)
        work = _asking_inspect(judge, model, model_role, seed)
    else:
        judging = resolve(judge, seed=seed)
        if not against:
            judging.score([])  # an InputError now, and not at every sample, where it gives no numbers
        work = Together(partial(_judge_all, judging))

    async def score(state: TaskState, target: Target) -> Score:
        prompt = Prompt(_conversation(state.input))
        answer = Response(prompt.id, assistant(state.output.completion), by=str(state.model))
        other = _other(state, target, against)
        if other == answer.text:
            return Score(value=0.5, answer=answer.text, explanation="two equal answers; the judge was not asked")
        rival = None if other is None else Response(prompt.id, assistant(other), by=against)
        return _score(await work(Item(prompt, answer, rival)), answer)

    return score


@dataclass(frozen=True)
class Item:
    """What is to be judged: an answer, perhaps against another one."""

    prompt: Prompt
    answer: Response
    rival: Response | None


@dataclass(frozen=True)
class Said:
    """What a judge said of an item: choices in both orders, or a number, or nothing; and its words, or its error's."""

    judgements: tuple[Choice | Number, ...]
    words: str


def _judge_all(judging: Judging, items: Sequence[Item]) -> list[Said]:
    """What the judge says of each, which is kept in Pippin's store."""
    with Store() as store:
        return _judge(judging, items, store.calls, store)


def _judge(
    judging: Judging,
    items: Sequence[Item],
    calls: Callable[[list[str]], Mapping[str, Call]],
    store: Store | None = None,
) -> list[Said]:
    """Judge all; a judge that failed on everything has said nothing of each. ``calls`` finds what it asked, by id."""
    pairs = [Pair(i.prompt, i.answer, i.rival) for i in items if i.rival is not None]
    rows = [(i.prompt, i.answer) for i in items if i.rival is None]
    try:
        choices = iter(judging.compare(pairs, store=store) if pairs else ())
        numbers = iter(judging.score(rows, store=store) if rows else ())
    except ModelError as error:
        return [Said((), str(error))] * len(items)
    found = [(next(numbers),) if item.rival is None else (next(choices), next(choices)) for item in items]
    asked = calls([call for judgements in found for j in judgements for call in j.calls])
    return [Said(judgements, _words(judgements, asked)) for judgements in found]


def _words(judgements: Sequence[Choice | Number], asked: Mapping[str, Call]) -> str:
    """What was answered, or why nothing was, call by call."""
    calls = [asked[call] for judgement in judgements for call in judgement.calls if call in asked]
    return "\n\n".join(text for call in calls if (text := call.text or call.error))


def _score(said: Said, answer: Response) -> Score:
    """What was said as Inspect's score of this answer: unscored where it says nothing."""
    judgements = said.judgements
    told = {"judge": judgements[0].by} if judgements else {}
    known = [j.value if isinstance(j, Number) else j.credit(answer.id) for j in judgements]
    values = [value for value in known if value is not None]
    if judgements and isinstance(judgements[0], Number):
        told |= {"scale": list(judgements[0].scale or ())}
        verdict = str(judgements[0].outcome) if judgements[0].value is None else f"{judgements[0].value:g}"
    else:
        verdict = ", ".join(f"shown {place}: {_word(j, answer)}" for place, j in zip(_PLACES, judgements, strict=False))
    explanation = "\n\n".join(filter(None, (f"{told['judge']}: {verdict}" if told else "", said.words)))
    if not values or len(values) < len(known):
        return Score.unscored(reason="grader_failed", answer=answer.text, explanation=explanation, metadata=told)
    return Score(value=sum(values) / len(values), answer=answer.text, explanation=explanation, metadata=told)


def _word(choice: Choice, answer: Response) -> str:
    """What became of this answer: won, lost, or what the judge said instead."""
    return {1.0: "won", 0.0: "lost"}.get(choice.credit(answer.id), str(choice.outcome))  # type: ignore[arg-type]


def _other(state: TaskState, target: Target, against: str) -> str | None:
    if not against:
        return None
    if against == "target":
        return target.text
    found = state.metadata.get(against)
    if not isinstance(found, str):
        raise InputError("no other answer to compare with", where=f"sample {state.sample_id}", expected=f"a text under "
                         f"{against!r} in its metadata", found=sorted(state.metadata))  # fmt: skip
    return found


def _conversation(given: str | list[ChatMessage]) -> Messages:
    if isinstance(given, str):
        return user(given)
    return tuple(Message(m.role if m.role in ("system", "assistant") else "user", m.text) for m in given)


# ---------------------------------------------------------------------- who is asked


def _asking_inspect(spec: str, model: str | Model | None, role: str, seed: int) -> Callable[[Item], Any]:
    """One sample at a time, so that the calls are counted as that sample's."""
    limiter = anyio.CapacityLimiter(THREADS)

    async def work(item: Item) -> Said:
        grader = model if isinstance(model, Model) else get_model(model) if model else get_model(role=role)
        asked = Grader(grader)
        judging = resolve(f"{GRADER}:{spec}", seed=seed, models={GRADER: asked})
        found = partial(_judge, judging, [item], lambda ids: {i: asked.calls[i] for i in ids if i in asked.calls})
        return (await anyio.to_thread.run_sync(found, limiter=limiter))[0]

    return work


class Grader:
    """An Inspect model as Pippin's judges ask it, from a thread of Inspect's event loop."""

    def __init__(self, model: Model) -> None:
        self.model, self.name = model, f"{GRADER}/{model}"
        self.calls: dict[str, Call] = {}

    def answer(self, requests: Sequence[Request]) -> Iterator[Call]:
        for request in requests:
            told = anyio.from_thread.run(self._ask, request)
            call = Call(request.key, request_digest(self.name, request), self.name, **told)
            self.calls[call.id] = call
            yield call

    async def _ask(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        config = GenerateConfig(temperature=sampling.temperature, max_tokens=sampling.max_tokens)
        if sampling.temperature > 0:
            config = config.merge(GenerateConfig(top_p=sampling.top_p, seed=sampling.seed + request.key.sample))
        spoken: list[ChatMessage] = [_SPOKEN[m.role](content=m.content) for m in request.messages]
        try:
            said = await self.model.generate(spoken, config=config)
        except LimitExceededError:  # of the sample: Inspect ends it
            raise
        except Exception as error:  # noqa: BLE001 - a provider raises its own kinds; the call has failed
            return {"stop": "error", "error": f"{type(error).__name__}: {error}"}
        if said.error:
            return {"stop": "error", "error": said.error}
        usage = said.usage
        return {
            "text": said.completion, "stop": _STOPS.get(str(said.stop_reason), ""), "served_model": said.model,
            "prompt_tokens": usage.input_tokens if usage else None,
            "completion_tokens": usage.output_tokens if usage else None,
        }  # fmt: skip


@dataclass
class _Place:
    item: Item
    result: Said | Exception | None = None


class Together:
    """Has many samples judged at once: those that come while a batch is under way are the next one."""

    def __init__(self, work: Callable[[Sequence[Item]], list[Said]]) -> None:
        self.work, self.waiting = work, list[_Place]()
        self.lock = anyio.Lock()

    async def __call__(self, item: Item) -> Said:
        place = _Place(item)
        self.waiting.append(place)
        async with self.lock:
            if place.result is None:
                await anyio.sleep(PAUSE)
                batch, self.waiting = self.waiting, []
                with anyio.CancelScope(shield=True):  # the others of the batch do not lose theirs with this one
                    await anyio.to_thread.run_sync(self._fill, batch)
        if isinstance(place.result, Exception):
            raise place.result
        assert place.result is not None
        return place.result

    def _fill(self, batch: Sequence[_Place]) -> None:
        try:
            results: Sequence[Said | Exception] = self.work([place.item for place in batch])
        except Exception as error:  # noqa: BLE001 - raised again in every sample of the batch
            results = [error] * len(batch)
        for place, result in zip(batch, results, strict=True):
            place.result = result
