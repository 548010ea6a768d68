"""What a model can do. Four small protocols; a part asks for the one it needs and for nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from pippin.core.types import Call, Messages, Request

if TYPE_CHECKING:
    import torch

    from pippin.lm.chat import Chat


class Logps(NamedTuple):
    """Log-probability of one response given its prompt, in nats: the sum over its tokens, and how many tokens."""

    total: float
    tokens: int


@runtime_checkable
class Answers(Protocol):
    """Answers requests. Calls come in any order; a request that failed is a Call whose ``stop`` is ``error``."""

    name: str

    def answer(self, requests: Sequence[Request]) -> Iterator[Call]: ...


@runtime_checkable
class LogProbs(Protocol):
    """Gives the log-probability of given responses."""

    def logprobs(self, prompts: Sequence[Messages], responses: Sequence[str]) -> list[Logps]: ...


@runtime_checkable
class Scores(Protocol):
    """Gives one number per response; higher is better."""

    def score(self, prompts: Sequence[Messages], responses: Sequence[str]) -> list[float]: ...


@runtime_checkable
class Trains(Protocol):
    """Has weights that an optimiser may change, and the chat format that they speak."""

    model: torch.nn.Module
    chat: Chat
