"""Prompts into responses: any model, follow-up turns played, every call stored, so that the same call resumes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pippin.core.errors import ModelError
from pippin.core.types import Call, Key, Message, Messages, Prompt, Request, Response, Sampling
from pippin.lm import engine

if TYPE_CHECKING:
    from pippin.core.store import Store
    from pippin.lm.protocols import Answers

Progress = Callable[[int, int], None]  # how many responses are done, and of how many
# Scores for each list of candidate answers, one list per prompt: what a best-of-n recipe chooses by.
Rerank = Callable[[Sequence[Prompt], list[list[str]]], list[list[float]]]


@dataclass(frozen=True)
class Responded:
    """Responses in the order of prompts and samples, and what failed: prompt, sample and why."""

    rows: tuple[tuple[Prompt, Response], ...]
    failed: tuple[tuple[Prompt, int, str], ...] = ()


def respond(
    model: Answers,
    prompts: Sequence[Prompt],
    *,
    n: int = 1,
    sampling: Sampling | None = None,
    store: Store | None = None,
    rerank: Rerank | None = None,
    progress: Progress | None = None,
) -> Responded:
    """``n`` responses of ``model`` to each prompt. Draw k of a prompt depends on (seed, prompt, k) alone.

    Args:
        sampling: by default the model's own recipe where it has one, else temperature 1.
        store: where calls are kept; what it holds is not asked again. Best-of-n recipes are not stored.
        rerank: scores the candidates of a best-of-n recipe.
        progress: told after every response.

    Raises:
        InputError: a best-of-n recipe without ``rerank``. What fails for one prompt is in ``failed``.
    """
    sampling = sampling or own_sampling(model)
    if getattr(getattr(model, "decoding", None), "n", 1) > 1:
        return _best(model, prompts, n, sampling, rerank, progress)
    prefix = getattr(getattr(model, "decoding", None), "prefix", "")
    asked = {f"{p.id}/{k}": (p, k) for p in prompts for k in range(n)}
    tasks = {key: _ask(p, k, sampling, model.name, prefix) for key, (p, k) in asked.items()}
    told = None if progress is None else lambda now: progress(now.done, now.tasks)
    said = engine.run(tasks, {"": model}, store, progress=told)
    rows, failed = [], []
    for key, (prompt, k) in asked.items():
        result = said[key]
        if isinstance(result, engine.Failure):
            failed.append((prompt, k, str(result.cause or result.error)))
        else:
            rows.append((prompt, result))
    return Responded(tuple(rows), tuple(failed))


def own_sampling(model: Any, seed: int = 0) -> Sampling:
    """The sampling of a model's own recipe; of a model without one, temperature 1."""
    return model.sampling(seed) if hasattr(model, "sampling") else Sampling(seed=seed)


def _ask(
    prompt: Prompt, sample: int, sampling: Sampling, by: str, prefix: str
) -> Generator[list[Request], list[Call], Response]:
    """One conversation: the prompt, then each follow-up after the answer before it."""
    said: Messages = ()
    stop = ""
    for turn, follow_up in enumerate((None, *prompt.follow_ups)):
        said += () if follow_up is None else (follow_up,)
        (call,) = yield [Request(Key(prompt.id, "respond", turn=turn, sample=sample), prompt.messages + said, sampling)]
        if call.stop == "error":
            raise ModelError(call.error or "no answer")
        said += (Message("assistant", call.text),)
        stop = call.stop
    context = (*prompt.messages, Message("assistant", prefix)) if prefix else None
    return Response(prompt.id, said, by, sample, context, stop, sampling)


def _best(
    policy: Any, prompts: Sequence[Prompt], n: int, sampling: Sampling, rerank: Rerank | None, progress: Progress | None
) -> Responded:
    """Best-of-n has its candidates drawn and scored together, some prompts at a time."""
    rows: list[tuple[Prompt, Response]] = []
    for start in range(0, len(prompts), 64):
        part = prompts[start : start + 64]
        by_id = {p.id: p for p in part}
        rows += [(by_id[r.prompt_id], r) for r in policy.respond(part, n=n, sampling=sampling, rerank=rerank)]
        if progress is not None:
            progress(len(rows), len(prompts) * n)
    return Responded(tuple(rows))
