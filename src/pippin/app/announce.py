"""What a training run is about to do, said before it does it: data, batch, and one example as the model sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pippin.core.errors import InputError

if TYPE_CHECKING:
    from pippin.align.method import Method
    from pippin.app.console import Console
    from pippin.app.job import Told
    from pippin.core.types import Group, Prompt
    from pippin.lm.policy import Policy

_SHOWN = 400  # characters of the example on each side of the response's beginning


def announce(
    console: Console, told: Told, method: Method, policy: Policy, groups: list[Group], prompts: list[Prompt], found: str
) -> None:
    """Say it.

    Raises:
        InputError: every response is cut away.
    """
    from pippin.app.console import printable

    size, parts = told.resolved["per_device_train_batch_size"], told.resolved["gradient_accumulation_steps"]
    if found:
        console.say(f"data: {found}")
    if prompts:
        console.say(f"prompts: {told.job.prompts}, {len(prompts)}")
    if method.terms:
        console.say(f"global batch: {size * parts} prompts a step ({size} a micro-batch, {parts} accumulated)")
    for label, context, trained in _example(told, method, policy, groups, prompts):
        cut = "…" if len(context) > _SHOWN else ""
        rest = f"… ({len(trained) - _SHOWN} characters more)" if len(trained) > _SHOWN else ""
        console.say(f"{label}: {cut}{printable(context[-_SHOWN:])}⟦{printable(trained[:_SHOWN])}{rest}⟧")


def _example(
    told: Told, method: Method, policy: Policy, groups: list[Group], prompts: list[Prompt]
) -> Iterator[tuple[str, str, str]]:
    """Label, what is read, and what is trained on, of the first example whose response is not cut away."""
    from pippin.feedback.collapse import collapse

    chat, limit = policy.chat, told.resolved["max_length"]
    decode = chat.tokenizer.decode
    for group in groups:
        shown = {"example": 0}
        if method.reads == "preferences":
            stated = collapse(group.judgements, group.responses, told.job.collapse).preferences
            shown = {"preferred": stated[0].i, "rejected": stated[0].j} if stated else {"example": 0}
        rows = {}
        for label, k in shown.items():
            response = group.responses[k]
            ids, mask = chat.example(group.prompt.messages, response.text, ended=response.stop != "length")
            rows[label] = chat.truncate(ids, mask, limit)
        if rows and all(any(mask) for _, mask in rows.values()):
            for label, (ids, mask) in rows.items():
                yield (
                    f"{label} (trained tokens in brackets)",
                    decode(ids[: mask.index(1)]),
                    decode(ids[mask.index(1) :]),
                )
            return
    if groups and method.terms and method.reads != "prompts":
        raise InputError(
            "no row has a response within max_length", found=f"max_length {limit}", mend="Raise --max_length"
        )
    if prompts:
        yield "example (what is sampled stands in brackets)", decode(chat.prompt_ids(prompts[0].messages)), " … "
