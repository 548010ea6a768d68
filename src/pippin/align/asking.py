"""Judges, models and files of one's own as plain functions inside the loop: scores, comparisons, segments, words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from numbers import Real
from typing import Any

from pippin.align.sources import Comparer, Feedback, Scorer, Segments
from pippin.core.errors import InputError
from pippin.core.functions import answers, load_function
from pippin.core.types import (
    Choice,
    Key,
    Outcome,
    Prompt,
    Request,
    Response,
    Sampling,
    Score,
    assistant,
    digest,
    user,
)
from pippin.data.respond import respond
from pippin.judge.ask import Pair
from pippin.judge.judging import Judging
from pippin.judge.resolve import resolve
from pippin.lm.models import resolve as model_of
from pippin.lm.protocols import Answers

_WORDS = 200  # tokens of a model's feedback
_LABELS = ("Yes", "No")
_CRITIC = (
    "Read the request and the reply below. Say in one or two sentences what should be changed in the reply, and how. "
    "If nothing should be changed, write only: nothing."
)


def scorer(judge: str | Judging, seed: int = 0) -> Scorer:
    """A judge as a function from prompts and texts to numbers.

    Raises:
        InputError: when called, a response got no score.
    """
    judging = resolve(judge, seed=seed) if isinstance(judge, str) else judge

    def score(prompts: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        said = judging.score(_rows(prompts, texts))
        return [float(s.value) for s in _whole(judging, said) if s.value is not None]

    return score


def comparer(judge: str | Judging, seed: int = 0) -> Comparer:
    """A judge as a function from pairs of texts to the probability that the first is better, over both orders.

    The mean of ``p_first``, or of 1, ½, 0 where it gives none; a position bias cancels (Lee et al. 2023, section 2.1).
    """
    judging = resolve(judge, seed=seed) if isinstance(judge, str) else judge

    def compare(prompts: Sequence[Prompt], first: Sequence[str], second: Sequence[str]) -> list[float | None]:
        pairs = [
            Pair(p, Response(p.id, assistant(a), sample=2 * k), Response(p.id, assistant(b), sample=2 * k + 1))
            for k, (p, a, b) in enumerate(zip(prompts, first, second, strict=True))
        ]
        said = judging.compare(pairs)
        size = len(said) // max(1, len(pairs))
        return [_mean_credit(said[k * size : (k + 1) * size], pair.first.id) for k, pair in enumerate(pairs)]

    return compare


def segments(judge: str | Judging, seed: int = 0) -> Segments:
    """A judge as a function to rewarded parts of each text: its spans, or its score for the whole text.

    ``python/FILE.py:function`` may return, in place of a number, a list of (from, to, reward) for each completion.
    """
    name = judge if isinstance(judge, str) else judge.info.name
    if name.startswith("python/"):
        function = cache(partial(_function, name))  # when first asked: most methods want its numbers only

        def own(prompts: Sequence[Prompt], texts: Sequence[str]) -> list[list[tuple[int, int, float]]]:
            asked = {"prompts": [p.text for p in prompts], "completions": list(texts)}
            said = answers(function(), name, len(texts), **asked)
            return [_parts(found, text, name) for found, text in zip(said, texts, strict=True)]

        return own
    judging = resolve(judge, seed=seed) if isinstance(judge, str) else judge

    def find(prompts: Sequence[Prompt], texts: Sequence[str]) -> list[list[tuple[int, int, float]]]:
        said = _whole(judging, judging.score(_rows(prompts, texts)))
        return [
            [(int(a), int(b), float(v)) for a, b, v in s.spans] or [(0, len(text), float(s.value or 0.0))]
            for s, text in zip(said, texts, strict=True)
        ]

    return find


def feedback_of(spec: str, seed: int = 0) -> Feedback:
    """What says in words what is wrong: ``gold`` (the world's verifier), ``python/FILE.py:function``, or a model.

    A function is called as a reward function is, and returns texts. A text that is empty says nothing.
    """
    if spec == "gold":
        from pippin.world.feedback import feedback as truth

        return lambda prompts, texts: [truth(p, t) for p, t in zip(prompts, texts, strict=True)]
    if spec.startswith("python/"):
        function = _function(spec)
        return lambda prompts, texts: [
            str(said or "")
            for said in answers(function, spec, len(texts), prompts=[p.text for p in prompts], completions=list(texts))
        ]
    say = writer(spec, seed, _WORDS, temperature=0.0)

    def words(prompts: Sequence[Prompt], texts: Sequence[str]) -> list[str]:
        asked = [f"{_CRITIC}\n\nRequest:\n{p.text}\n\nReply:\n{t}" for p, t in zip(prompts, texts, strict=True)]
        return ["" if s[0].strip(" .\n").lower() in ("", "nothing") else s[0] for s in say(asked, 1)]

    return words


def writer(
    spec: str, seed: int, max_tokens: int, temperature: float = 1.0, top_p: float = 1.0
) -> Callable[[Sequence[str], int], list[list[str]]]:
    """A named model as a function from texts and n to n answers each. An answer that failed is an empty text."""
    model = model_of(spec)
    sampling = Sampling(temperature, top_p, max_tokens, seed)

    def write(asked: Sequence[str], n: int) -> list[list[str]]:
        prompts = [Prompt(user(text)) for text in asked]
        unique = list({p.id: p for p in prompts}.values())
        said: dict[tuple[str, int], str] = {}
        for prompt, response in respond(model, unique, n=n, sampling=sampling).rows:
            said[prompt.id, response.sample] = response.text
        return [[said.get((p.id, k), "") for k in range(n)] for p in prompts]

    return write


def yes_share(model: Answers, questions: Sequence[str]) -> list[float | None]:
    """P(Yes) / (P(Yes) + P(No)) as the answer to each question; None where the model could not be asked."""
    keys = [Key(digest(["question", text]), "select") for text in questions]
    requests = [
        Request(key, user(text), Sampling(temperature=0.0, max_tokens=1), labels=_LABELS)
        for key, text in dict(zip(keys, questions, strict=True)).items()
    ]
    found: dict[Key, float] = {}
    for call in model.answer(requests):
        if call.stop != "error" and call.logprobs:
            yes, no = (math.exp(call.logprobs[label]) if label in call.logprobs else 0.0 for label in _LABELS)
            if yes + no > 0:
                found[call.key] = yes / (yes + no)
    return [found.get(key) for key in keys]


def _function(spec: str) -> Callable[..., Any]:
    """The function of ``python/FILE.py:function``."""
    return load_function(spec.removeprefix("python/"), spec)[0]


def _rows(prompts: Sequence[Prompt], texts: Sequence[str]) -> list[tuple[Prompt, Response]]:
    return [(p, Response(p.id, assistant(t), sample=k)) for k, (p, t) in enumerate(zip(prompts, texts, strict=True))]


def _whole(judging: Judging, said: list[Score]) -> list[Score]:
    missing = sum(s.value is None for s in said)
    if missing:
        raise InputError(
            f"{judging.info.name} gave no score for {missing} of {len(said)} responses",
            mend="Training cannot go on without them; run again to retry",
        )
    return said


def _mean_credit(choices: Sequence[Choice], first: str) -> float | None:
    """Mean probability that ``first`` is better; None where one order is missing: half a comparison is biased."""
    values = []
    for choice in choices:
        if choice.outcome.missing:
            return None
        p = choice.p_first
        if p is None:
            p = {Outcome.FIRST: 1.0, Outcome.SECOND: 0.0}.get(choice.outcome, 0.5)
        values.append(p if choice.first == first else 1 - p)
    return sum(values) / len(values) if values else None


def _parts(found: Any, text: str, spec: str) -> list[tuple[int, int, float]]:
    try:
        given = [(0, len(text), found)] if isinstance(found, Real) else found
        parts = [(int(a), int(b), float(v)) for a, b, v in given]
    except (TypeError, ValueError):
        parts = [(0, 0, math.nan)]
    if not all(math.isfinite(v) for _, _, v in parts):
        raise InputError("the function gave neither a finite number nor segments", where=spec, found=repr(found),
                         expected="a number, or a list of (from, to, reward)")  # fmt: skip
    return parts
