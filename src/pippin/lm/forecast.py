"""What a run would ask and cost, before anything is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pippin.core.types import Request
from pippin.lm.engine import Task, call_id, identity, model_of, request_digest
from pippin.lm.protocols import Answers
from pippin.lm.writer import Calls

_CHARACTERS = 4  # of a token, about; counting tokens would take the model's own tokenizer
_CHUNK = 4096


@dataclass(frozen=True)
class Forecast:
    """What a run would ask.

    Attributes:
        requests: requests that would be made; ``stored`` more are answered from the store.
        prompt_tokens: estimated: a token for every four characters.
        completion_tokens: the most that the requests allow.
        price: US dollars, from prompts alone to the longest answers; None if the price of a model is not known.
        unpriced: the models without a known price.
    """

    requests: int
    stored: int
    prompt_tokens: int
    completion_tokens: int
    price: tuple[float, float] | None
    unpriced: tuple[str, ...] = ()

    def __str__(self) -> str:
        unknown = f"unknown price ({', '.join(self.unpriced)})"
        price = unknown if self.price is None else f"${self.price[0]:.2f} to ${self.price[1]:.2f}"
        return (
            f"{self.requests:,} requests ({self.stored:,} more are stored), about {self.prompt_tokens:,} tokens of "
            f"prompts, at most {self.completion_tokens:,} of answers, {price}"
        )


def estimate(
    tasks: Mapping[str, Task[Any]], models: Mapping[str, Answers], store: Calls | None = None, *, scale: float = 1.0
) -> Forecast:
    """What :func:`pippin.lm.engine.run` would ask with the same arguments. Nothing is asked; the tasks are used up.

    Only the first requests of a task can be known.

    Args:
        scale: requests of a whole task per request of its first round, where more is known of the tasks. Multiplies
            all but ``stored``.

    Raises:
        UnknownName: no model answers a request.
    """
    identities = {name: identity(model) for name, model in models.items()}
    found: dict[tuple[str, int], tuple[str, str, Request]] = {}
    for task in tasks.values():
        for request in next(task, []):
            name = model_of(models, request)
            asked = request_digest(identities[name], request)
            found.setdefault((asked, request.key.sample), (call_id(request, asked), name, request))
        task.close()
    ids = [call for call, _, _ in found.values()]
    stored: set[str] = set()
    for start in range(0, len(ids), _CHUNK) if store is not None else ():
        calls = store.calls(ids[start : start + _CHUNK]) if store is not None else {}
        stored |= {call_id for call_id, call in calls.items() if call.stop != "error"}
    low = high = read_all = written_all = 0.0
    count, unpriced = 0, {}
    for call, name, request in found.values():
        if call in stored:
            continue
        read = math.ceil(sum(len(m.content) for m in request.messages) / _CHARACTERS)
        count, read_all, written_all = count + 1, read_all + read, written_all + request.sampling.max_tokens
        prices = getattr(models[name], "prices", (0.0, 0.0))  # what runs here costs nothing
        if prices is None:
            unpriced[models[name].name] = None
        else:
            low += read * prices[0] / 1e6
            high += (read * prices[0] + request.sampling.max_tokens * prices[1]) / 1e6
    return Forecast(
        round(scale * count), len(stored), round(scale * read_all), round(scale * written_all),
        None if unpriced else (scale * low, scale * high), tuple(unpriced),
    )  # fmt: skip
