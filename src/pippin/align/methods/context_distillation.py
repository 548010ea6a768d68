"""Context distillation: the policy answers with good advice before the prompt, and learns to answer so without it.

Source: Askell et al. 2021 (arXiv 2112.00861), section 2.2; sampled form as in RLCD, Yang et al. 2023 (arXiv 2307.12950)

p⁺ is the prompt with ``context`` before it: as a system message, or at the head of the first user turn for templates
without one. y⁺ ~ π(.|p⁺), without those that were cut; L = token mean of -lp_t(y⁺ | p), on the bare prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pippin.align import layouts, sources
from pippin.align.method import Method, Term
from pippin.align.methods.sft import loss
from pippin.core.config import setting
from pippin.core.errors import InputError
from pippin.core.types import Message, Messages

ADVICE = (
    "Your answers are correct, do exactly what was asked, and stop there. You say so where you do not know something, "
    "and you turn down, kindly and with a reason, whatever could hurt somebody."
)


@dataclass(frozen=True)
class Config:
    """Context distillation's own fields."""

    context: str = setting(ADVICE, "what stands before the prompt when the policy answers")
    place: Literal["system", "user"] = setting("system", "a system message, or the head of the first user turn")
    num_generations: int = setting(1, "responses drawn for a prompt")
    max_completion_length: int = setting(64, "tokens of a response at most")
    temperature: float = setting(1.0, "of the draws")


def with_context(messages: Messages, text: str, place: str) -> Messages:
    """The contrast prompt; an existing system message keeps its text after the advice."""
    if place == "system":
        if messages and messages[0].role == "system":
            return (Message("system", f"{text}\n\n{messages[0].content}"), *messages[1:])
        return (Message("system", text), *messages)
    first = next((k for k, m in enumerate(messages) if m.role == "user"), None)
    if first is None:
        raise InputError("a prompt without a user turn has no place for the context", found=[m.role for m in messages])
    said = Message("user", f"{text} {messages[first].content}")
    return (*messages[:first], said, *messages[first + 1 :])


def draw(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """Every prompt, answered with the context before it; the bare prompt is what will be trained on."""
    config, chat = context.config, context.policy.chat
    if not config.context.strip():
        raise InputError("there is no context to distil", where="context", mend="Give --context TEXT")
    bare = sources.draw_prompts(context, len(context.prompts))
    asked = sources.fitting(
        context,
        [
            replace(g, prompt_ids=chat.prompt_ids(with_context(g.prompt.messages, config.context, config.place)))
            for g in bare
        ],
    )
    plain = {g.prompt.id: g.prompt_ids for g in bare}
    drawn = sources.sample(
        context, asked, config.num_generations, config.max_completion_length, config.temperature, purpose="contrast"
    )
    return [replace(g, prompt_ids=plain[g.prompt.id]) for g in drawn]


METHOD = Method(
    config=Config,
    reads="prompts",
    asks=lambda config: frozenset({"prompts"}),
    pipeline=(draw, sources.drop_unended),
    layout=layouts.rows,
    terms=(Term("nll", loss, "token"),),
    score="mean",
    defaults={"learning_rate": 1e-5},
)
