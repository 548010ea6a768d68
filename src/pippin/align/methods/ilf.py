"""ILF: the policy answers, somebody says in words what is wrong, the answer is refined, and the refinement is learnt.

Source: Scheurer et al. 2023 (arXiv 2303.16755), algorithm 1 and section 3

1. y0 ~ π(x), or the data's own responses. 2. Feedback f on y0 in words: a judge's, or the notes in the data. 3. K = 5
refinements from (x, y0, f) by the policy or a named model. 4. One is chosen: by an ensemble of five yes-or-no questions
whether it does what the feedback asks (InstructRM), by the reward, or at random; equals are told apart by their tokens.
5. SFT of the first weights on x -> y1 alone. Again from the new policy. Where nothing was said of y0 it is not
refined (``without_feedback``); refinements that were cut are dropped. ``refinements_win`` is how often the chosen one
beats y0 by the reward: measure it before training, weak models cannot refine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pippin.align import asking, layouts, sources
from pippin.align.method import Method, Term
from pippin.align.methods.sft import loss
from pippin.core.config import setting
from pippin.core.errors import InputError
from pippin.core.types import Note, Prompt, digest, user
from pippin.lm.models import resolve as model_of

QUESTIONS = (
    "Does the new reply do what the feedback asks?",
    "Has the feedback been taken up in the new reply?",
    "Is the fault that the feedback names mended in the new reply?",
    "Would whoever gave the feedback be content with the new reply?",
    "Is the new reply better than the old one in the way the feedback wants?",
)


@dataclass(frozen=True)
class Config:
    """ILF's own fields."""

    num_rounds: int = setting(1, "rounds of answering, refining and fine-tuning")
    prompts_per_round: int = setting(512, "prompts, or responses with notes, of a round")
    drafts: Literal["sample", "data"] = setting(
        "sample", "y0 and feedback: drawn and criticised, or read from the data"
    )
    num_refinements: int = setting(5, "K, refinements of a response; 1: nothing is chosen")
    max_completion_length: int = setting(64, "tokens of a response at most")
    temperature: float = setting(1.0, "of drafts and refinements")
    refine_from: Literal["feedback", "draft", "prompt"] = setting(
        "feedback", "what a refinement knows: prompt, draft and feedback; without feedback; the prompt alone"
    )
    refiner: str = setting("", "the model that refines and answers the questions; empty: the policy")
    selection: Literal["instruct_rm", "scorer", "random"] = setting("instruct_rm", "how a refinement is chosen")
    from_base: bool = setting(True, "each round trains the first weights")


def draft(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """One response for each prompt, and in the state what was said of it."""
    config = context.config
    if config.drafts == "data":
        groups, said = from_data(context, config.prompts_per_round)
    else:
        if context.feedback is None:
            raise InputError("nobody gives feedback", mend="Give --feedback gold, a model, python/FILE.py:function")
        groups = sources.draw_prompts(context, config.prompts_per_round)
        groups = sources.sample(context, groups, 1, config.max_completion_length, config.temperature, purpose="draft")
        said = list(context.feedback([g.prompt for g in groups], [g.texts[0] for g in groups]))
        if len(said) != len(groups):
            raise InputError("a wrong number of texts of feedback", found=len(said), expected=len(groups))
        context.ledger.add(judge_calls=len(said))
    if not any(said) and context.round == 0:  # later it is what the policy has become
        raise InputError("there is no feedback on any response", found=f"{len(said)} responses",
                         mend="Take prompts that the policy does not solve, or another --feedback")  # fmt: skip
    context.state["figures"] = {"without_feedback": float(np.mean([not text for text in said]))}
    context.state["feedback"] = [text for text in said if text]
    return [g for g, text in zip(groups, said, strict=True) if text]


def from_data(context: sources.Context, count: int) -> tuple[list[sources.LoopGroup], list[str]]:
    """Responses of the data that have a note, and the notes."""
    chat, rows = context.policy.chat, []
    for group in context.data:
        texts = {r.id: r.text for r in group.responses}
        rows += [(group.prompt, texts[i], n.text) for n in group.judgements if isinstance(n, Note)
                 for i in n.about if i in texts]  # fmt: skip
    if not rows:
        raise InputError("no response of the data has a note", mend="Set drafts to sample and give --feedback")
    chosen = [rows[k] for k in sources.walk(context, "notes", len(rows), min(count, len(rows)))]
    context.ledger.add(prompts_seen=len(chosen), labels=len(chosen))
    groups = [sources.LoopGroup(p, chat.prompt_ids(p.messages), ((),), (text,), (True,)) for p, text, _ in chosen]
    return groups, [note for _, _, note in chosen]


def refine_prompt(prompt: Prompt, reply: str, feedback: str, know: str) -> str:
    """What a refiner is asked."""
    if know == "prompt":
        return prompt.text
    told = f"Feedback on the reply:\n{feedback}\n\n" if know == "feedback" else ""
    by = "so that it does what the feedback asks" if know == "feedback" else "so that it is better"
    return (
        f"A request and a reply to it stand below. Write the reply again {by}, and nothing else.\n\n"
        f"Request:\n{prompt.text}\n\nReply:\n{reply}\n\n{told}New reply:"
    )


def refine(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """K refinements of each draft that ended by themselves; the drafts stay in the state."""
    config, chat = context.config, context.policy.chat
    notes, context.state["drafts"] = context.state["feedback"], []
    if not groups:
        return []
    asked = [refine_prompt(g.prompt, g.texts[0], f, config.refine_from) for g, f in zip(groups, notes, strict=True)]
    if config.refiner:
        write = asking.writer(config.refiner, context.seed, config.max_completion_length, config.temperature)
        texts = write(asked, config.num_refinements)
        rows = [written(context, g, t) for g, t in zip(groups, texts, strict=True)]
    else:
        inner = [replace(g, prompt_ids=chat.prompt_ids(user(text))) for g, text in zip(groups, asked, strict=True)]
        fits = {id(g) for g in sources.fitting(context, inner)}
        kept = [k for k, g in enumerate(inner) if id(g) in fits]
        groups, notes, inner = ([part[k] for k in kept] for part in (groups, notes, inner))
        inner = sources.sample(
            context, inner, config.num_refinements, config.max_completion_length, config.temperature, purpose="refine"
        )
        rows = [replace(g, prompt_ids=old.prompt_ids) for g, old in zip(inner, groups, strict=True)]
    whole = [g.keep([k for k, ended in enumerate(g.ended) if ended]) for g in rows]
    unended = sum(not e for g in rows for e in g.ended)
    context.state["figures"]["refinements_dropped"] = unended / max(1, sum(len(g.ended) for g in rows))
    left = [k for k, g in enumerate(whole) if g.responses]
    context.state["feedback"] = [notes[k] for k in left]
    context.state["drafts"] = [groups[k].texts[0] for k in left]
    return [whole[k] for k in left]


def written(context: sources.Context, group: sources.LoopGroup, texts: list[str]) -> sources.LoopGroup:
    """A named model's refinements in the policy's tokens; an empty text counts as cut."""
    chat, limit, rows = context.policy.chat, context.max_length, []
    for text in texts:
        ids, mask = chat.truncate(*chat.example(group.prompt.messages, text or "-"), limit)
        start = mask.index(1) if any(mask) else len(ids)
        rows.append((tuple(ids[start:]), bool(text) and ids[-1] in chat.end_ids))
    return replace(group, responses=tuple(r for r, _ in rows), texts=tuple(texts), ended=tuple(e for _, e in rows))


def select(context: sources.Context, groups: list[sources.LoopGroup]) -> list[sources.LoopGroup]:
    """The refinement of each group that is learnt."""
    config = context.config
    notes, drafts = context.state.pop("feedback"), context.state.pop("drafts")
    if not groups:
        return []
    if config.selection == "scorer":
        groups = sources.score(context, groups)
        before = sources.asked(context, [g.prompt for g in groups], drafts)
        best = np.array([g.rewards.max() for g in groups])
        context.state["figures"] |= {
            "drafts/scores": float(before.mean()), "refinements/scores": float(best.mean()),
            "refinements_win": float(np.mean(best > before)),
        }  # fmt: skip
    elif config.selection == "random":
        seeds = [digest([context.seed, "select", context.round, g.prompt.id]) for g in groups]
        scores = [np.random.default_rng(int(s, 16)).random(len(g.texts)) for s, g in zip(seeds, groups, strict=True)]
        groups = [replace(g, scores=s) for g, s in zip(groups, scores, strict=True)]
    else:
        groups = [replace(g, scores=s) for g, s in zip(groups, believed(context, groups, notes, drafts), strict=True)]
    return [g.keep([first_of_best(g)]) for g in groups]


def believed(
    context: sources.Context, groups: list[sources.LoopGroup], notes: list[str], drafts: list[str]
) -> list[np.ndarray]:
    """The mean of P(Yes) over the five questions, for each refinement."""
    model = model_of(context.config.refiner) if context.config.refiner else context.policy
    asked = [
        f"Request:\n{g.prompt.text}\n\nOld reply:\n{old}\n\nFeedback:\n{note}\n\nNew reply:\n{text}\n\n{question} "
        "Answer Yes or No."
        for g, note, old in zip(groups, notes, drafts, strict=True)
        for text in g.texts
        for question in QUESTIONS
    ]
    shares = [np.nan if share is None else share for share in asking.yes_share(model, asked)]
    context.ledger.add(judge_calls=len(asked))
    means = np.array(shares).reshape(-1, len(QUESTIONS)).mean(-1)
    if np.isnan(means).any():
        raise InputError(
            "the questions about a refinement got no answer",
            where=model.name,
            found=f"{int(np.isnan(means).sum())} of {len(means)} refinements",
            mend="Set selection to scorer or random, or take a refiner that gives log-probabilities",
        )
    return np.split(means, np.cumsum([len(g.texts) for g in groups])[:-1])


def first_of_best(group: sources.LoopGroup) -> int:
    """The row of the highest score; among equals the one whose tokens come first, whatever the order of drawing."""
    return min(range(len(group.texts)), key=lambda k: (-group.rewards[k], tuple(group.responses[k])))


METHOD = Method(
    config=Config,
    reads="prompts",
    asks=lambda config: frozenset(
        ({"data"} if config.drafts == "data" else {"prompts", "feedback"})
        | ({"reward"} if config.selection == "scorer" else set())
    ),
    pipeline=(draft, refine, select),
    layout=layouts.rows,
    terms=(Term("nll", loss, lambda config: "token"),),
    rounds=lambda config: config.num_rounds,
    restart=lambda config: config.from_base,
    score="mean",
    defaults={"learning_rate": 1e-5},
)
