"""Group transforms: read, draw, sample, score, select. What stands before the arithmetic of a method; no gradient here.

Inside the loop a group is a :class:`LoopGroup`: one prompt, its responses as the tokens that will be trained on,
scores as an array. A transform takes the context and the groups so far and gives the next groups; what it costs goes
to the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pippin.core.errors import InputError
from pippin.core.run import Ledger
from pippin.core.types import Group, Preference, Prompt, digest
from pippin.lm.sampling import sample as sample_tokens

if TYPE_CHECKING:
    from pippin.align.method import State, Training
    from pippin.lm.policy import Policy

Scorer = Callable[[Sequence[Prompt], Sequence[str]], Sequence[float]]


@dataclass(frozen=True)
class LoopGroup:
    """One prompt in the loop. ``responses`` are token ids, with the end token where ``ended``; ``texts`` the same."""

    prompt: Prompt
    prompt_ids: Sequence[int]
    responses: tuple[Sequence[int], ...] = ()
    texts: tuple[str, ...] = ()
    ended: tuple[bool, ...] = ()
    scores: np.ndarray | None = None  # [K]
    preferences: tuple[Preference, ...] = ()

    def keep(self, rows: Sequence[int]) -> LoopGroup:
        """The same group with these responses only; preferences between kept ones stay."""
        place = {r: k for k, r in enumerate(rows)}
        kept = tuple(replace(p, i=place[p.i], j=place[p.j]) for p in self.preferences if p.i in place and p.j in place)
        return replace(
            self,
            responses=tuple(self.responses[r] for r in rows),
            texts=tuple(self.texts[r] for r in rows),
            ended=tuple(self.ended[r] for r in rows),
            scores=None if self.scores is None else self.scores[list(rows)],
            preferences=kept,
        )


@dataclass
class Context:
    """What a transform may use. ``policy`` is the current one; ``seed`` and ``round`` fix every draw."""

    policy: Policy
    config: Any
    training: Training
    seed: int
    round: int = 0
    data: Sequence[Group] = ()
    preferences: Sequence[Sequence[Preference]] = ()  # beside data: collapsed from its judgements
    prompts: Sequence[Prompt] = ()
    scorer: Scorer | None = None
    development: Sequence[Prompt] = ()
    evaluate: Callable[[Sequence[Prompt], Sequence[str]], Sequence[float]] | None = None
    ledger: Ledger = field(default_factory=Ledger)
    state: State = field(default_factory=dict)


def read(context: Context, groups: list[LoopGroup]) -> list[LoopGroup]:
    """The data set, tokenised by the policy's chat format and cut at ``max_length``. Rows left without a response are
    dropped and counted in ``state["dropped_rows"]``."""
    chat, limit = context.policy.chat, context.training.max_length
    out, dropped = [], 0
    preferences = context.preferences or [()] * len(context.data)
    for group, preference in zip(context.data, preferences, strict=True):
        prompt_ids = chat.prompt_ids(group.prompt.messages)
        rows, kept = [], []
        for k, response in enumerate(group.responses):
            ids, mask = chat.truncate(
                *chat.example(group.prompt.messages, response.text, ended=response.stop != "length"), limit
            )
            if sum(mask) == 0:
                dropped += 1
                continue
            start = mask.index(1)
            kept.append(k)
            rows.append((ids[:start], ids[start:], response.text, ids[-1] in chat.end_ids))
        if not rows:
            continue
        place = {k: n for n, k in enumerate(kept)}
        out.append(
            LoopGroup(
                group.prompt,
                rows[0][0] if rows[0][0] else prompt_ids,
                tuple(r[1] for r in rows),
                tuple(r[2] for r in rows),
                tuple(r[3] for r in rows),
                preferences=tuple(
                    replace(p, i=place[p.i], j=place[p.j]) for p in preference if p.i in place and p.j in place
                ),
            )
        )
    if dropped:
        context.state["dropped_rows"] = dropped
    labels = sum(len(g.preferences) or len(g.responses) for g in out)  # a demonstration is a label too
    context.ledger.add(prompts_seen=len(out), labels=labels)
    return out


def draw_prompts(context: Context, count: int) -> list[LoopGroup]:
    """The next ``count`` prompts: a fixed shuffle, walked through round by round, reshuffled at its end."""
    if not context.prompts:
        raise InputError("this method samples, and there are no prompts", mend="Give --prompts FILE")
    chosen, total = [], len(context.prompts)
    for position in range(context.round * count, (context.round + 1) * count):
        epoch, index = divmod(position, total)
        if not chosen or index == 0:
            order = np.random.default_rng(int(digest([context.seed, "prompts", epoch]), 16)).permutation(total)
        chosen.append(context.prompts[order[index]])
    chat = context.policy.chat
    context.ledger.add(prompts_seen=count)
    return [LoopGroup(p, chat.prompt_ids(p.messages)) for p in chosen]


def sample(
    context: Context,
    groups: list[LoopGroup],
    n: int,
    max_tokens: int,
    temperature: float = 1.0,
    purpose: str = "rollout",
) -> list[LoopGroup]:
    """``n`` draws for each group from the current policy.

    Draw k of a prompt depends on (seed, round, prompt, k) alone; a prompt that stands twice goes on counting.
    """
    policy = context.policy
    rows = [g.prompt_ids for g in groups for _ in range(n)]
    before: Counter[str] = Counter()
    seeds = []
    for group in groups:
        first = before[group.prompt.id]
        before[group.prompt.id] += n
        seeds += [int(digest([context.seed, purpose, context.round, group.prompt.id, first + k]), 16) for k in range(n)]
    draws = sample_tokens(
        policy.model,
        rows,
        max_tokens=max_tokens,
        temperature=temperature,
        end_ids=policy.chat.end_ids,
        end_marker=policy.chat.end_marker,
        seeds=seeds,
        banned=policy.banned_ids,
        pad_id=policy.chat.pad_id,
    )
    context.ledger.add(policy_tokens_sampled=sum(len(d.ids) for d in draws))
    out = []
    for k, group in enumerate(groups):
        mine = draws[k * n : (k + 1) * n]
        texts = tuple(policy.chat.decode(d.ids) for d in mine)
        out.append(
            replace(group, responses=tuple(d.ids for d in mine), texts=texts, ended=tuple(d.ended for d in mine))
        )
    return out


def score(context: Context, groups: list[LoopGroup]) -> list[LoopGroup]:
    """The reward of every response, as ``scores`` of each group."""
    if context.scorer is None:
        raise InputError("this method needs a reward, and none is given", mend="Give --reward rm/PATH or another judge")
    prompts = [g.prompt for g in groups for _ in g.texts]
    values = np.asarray(context.scorer(prompts, [t for g in groups for t in g.texts]), dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError("the reward gave a value that is not finite", found=float(values[~np.isfinite(values)][0]))
    context.ledger.add(scorer_calls=len(values))
    out, start = [], 0
    for group in groups:
        out.append(replace(group, scores=values[start : start + len(group.texts)]))
        start += len(group.texts)
    return out


def drop_unended(context: Context, groups: list[LoopGroup]) -> list[LoopGroup]:
    """Without responses that were cut at the length limit; groups left empty are dropped."""
    kept = [g.keep([k for k, e in enumerate(g.ended) if e]) for g in groups]
    return [g for g in kept if g.responses]


def best(context: Context, groups: list[LoopGroup]) -> list[LoopGroup]:
    """The response with the highest score of each group; the first of equals."""
    return [g.keep([int(np.argmax(g.scores))]) for g in groups if g.scores is not None]
