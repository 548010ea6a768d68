"""Group transforms: read, draw, sample, score, select. What stands before the arithmetic of a method; no gradient here.

Inside the loop a group is a :class:`LoopGroup`: one prompt, its responses as the tokens that will be trained on,
scores as an array. A transform takes the context and the groups so far and gives the next groups; what it costs goes
to the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pippin.align import interventions, judged
from pippin.core.errors import Diverged, InputError
from pippin.core.run import Ledger
from pippin.core.types import Group, Message, Preference, Prompt, Response, digest
from pippin.lm.forward import next_logps, pad
from pippin.lm.sampling import sample as sample_tokens

if TYPE_CHECKING:
    from pippin.align.method import State, Training
    from pippin.lm.chat import Chat
    from pippin.lm.policy import Policy

Scorer = Callable[[Sequence[Prompt], Sequence[str]], Sequence[float]]
# for each pair the probability that the first text is better, None where the judge has no opinion
Comparer = Callable[[Sequence[Prompt], Sequence[str], Sequence[str]], Sequence[float | None]]
# for each text its rewarded parts: characters from, to, reward
Segments = Callable[[Sequence[Prompt], Sequence[str]], Sequence[Sequence[tuple[int, int, float]]]]
# for each text what is wrong with it, in words; empty where nothing was said
Feedback = Callable[[Sequence[Prompt], Sequence[str]], Sequence[str]]


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
    strengths: tuple[float, ...] = ()  # of each preference, 0 where none is stated
    stated: Mapping[str, np.ndarray] = field(default_factory=dict)  # criterion -> [K], NaN where nobody gave a number
    demonstrations: frozenset[int] = frozenset()  # rows that nobody judged and no policy drew
    masks: tuple[Sequence[int], ...] = ()  # per response, 1 on the tokens to train; empty: on all of them

    @property
    def rewards(self) -> np.ndarray:
        """The scores ``[K]`` that :func:`score` has set."""
        if self.scores is None:
            raise ValueError("this group has not been scored")
        return self.scores

    def keep(self, rows: Sequence[int]) -> LoopGroup:
        """The same group with these responses only; preferences between kept ones stay."""
        place = {r: k for k, r in enumerate(rows)}
        inside = [k for k, p in enumerate(self.preferences) if p.i in place and p.j in place]
        kept = tuple(replace(p, i=place[p.i], j=place[p.j]) for p in (self.preferences[k] for k in inside))
        return replace(
            self,
            responses=tuple(self.responses[r] for r in rows),
            texts=tuple(self.texts[r] for r in rows),
            ended=tuple(self.ended[r] for r in rows),
            scores=None if self.scores is None else self.scores[list(rows)],
            preferences=kept,
            strengths=tuple(self.strengths[k] for k in inside) if self.strengths else (),
            stated={criterion: values[list(rows)] for criterion, values in self.stated.items()},
            demonstrations=frozenset(place[r] for r in self.demonstrations if r in place),
            masks=tuple(self.masks[r] for r in rows) if self.masks else (),
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
    control: Mapping[str, int] = field(default_factory=dict)  # the method's new tokens: never drawn
    compare: Comparer | None = None
    segments: Segments | None = None
    feedback: Feedback | None = None
    reference: Policy | None = None  # the policy as it was at the start, where the method has one
    budget: Mapping[str, float] = field(default_factory=dict)  # ledger column -> amount at which training ends

    def over(self, step: int) -> bool:
        """Whether training ends after so many steps: ``max_steps`` is reached, or the budget used up."""
        spent = any(getattr(self.ledger, column) >= amount for column, amount in self.budget.items())
        return spent or 0 <= self.training.max_steps <= step

    @property
    def room(self) -> int:
        """Tokens that the model's context holds; 0 where it states none."""
        return int(getattr(self.policy.model.config, "max_position_embeddings", 0) or 0)

    @property
    def max_length(self) -> int:
        """Tokens of prompt and response together at most: ``max_length``, or what the model's context holds."""
        return min(self.training.max_length, self.room) if self.room else self.training.max_length

    def trained_length(self, group: Group, response: Response) -> int:
        """Tokens of a response that :func:`read` would train on, its end token among them."""
        _, mask = _row(self.policy.chat, group.prompt, response, False)
        return sum(mask[: self.max_length])


def read(context: Context, groups: list[LoopGroup], *, every_turn: bool = False) -> list[LoopGroup]:
    """The data set, tokenised by the policy's chat format and cut at :attr:`Context.max_length`, with what was said of
    it: scores where one author scored every response, numbers by criterion, strengths of preferences.

    What is trained on is the last turn of each response; with ``every_turn`` every assistant turn of the conversation.
    Rows left without a response are dropped and counted in ``state["dropped_rows"]``, those of which a part is left in
    ``state["cut_rows"]``.
    """
    chat, limit = context.policy.chat, context.max_length
    out, dropped, cut = [], 0, 0
    preferences = context.preferences or [()] * len(context.data)
    for group, preference in zip(context.data, preferences, strict=True):
        prompt_ids = chat.prompt_ids(group.prompt.messages)
        split, kept, rows = len(prompt_ids), [], []
        for k, response in enumerate(group.responses):
            row = _row(chat, group.prompt, response, every_turn)
            ids, mask = chat.truncate(*row, limit)
            if sum(mask) == 0:
                dropped += 1
                continue
            cut += len(ids) < len(row[0])
            split = min(split, mask.index(1), _shared(ids, prompt_ids))
            kept.append(k)
            rows.append((ids, mask))
        if not rows:
            continue
        masks = tuple(mask[split:] for _, mask in rows)
        whole = LoopGroup(
            group.prompt,
            prompt_ids,
            ((),) * len(group.responses),
            tuple(r.text for r in group.responses),
            (False,) * len(group.responses),
            scores=judged.scores(group),
            preferences=tuple(preference),
            strengths=judged.strengths(group, preference),
            stated=judged.stated(group),
            demonstrations=judged.demonstrations(group),
        )
        out.append(
            replace(
                whole.keep(kept),
                prompt_ids=rows[0][0][:split],
                responses=tuple(ids[split:] for ids, _ in rows),
                ended=tuple(ids[-1] in chat.end_ids for ids, _ in rows),
                masks=() if all(map(all, masks)) else masks,
            )
        )
    context.state.update({name: n for name, n in (("dropped_rows", dropped), ("cut_rows", cut)) if n})
    labels = sum(len(g.preferences) or len(g.responses) for g in out)  # a demonstration is a label too
    context.ledger.add(prompts_seen=len(out), labels=labels)
    return out


def _row(chat: Chat, prompt: Prompt, response: Response, every_turn: bool) -> tuple[list[int], list[int]]:
    """Ids of prompt and response, and a mask that is 1 on the last assistant turn, or on every one. Both are empty
    where the response is: no text, and no end either."""
    if response.stop == "length" and not response.text.strip():
        return [], []
    last = max((k for k, m in enumerate(response.messages) if m.role == "assistant"), default=0)
    before = (*prompt.messages, *response.messages[:last])
    ids, mask = chat.example(before, response.text, ended=response.stop != "length")
    if every_turn and any(m.role == "assistant" for m in before):
        start = mask.index(1)
        mask[:start] = chat.conversation((*before, Message("assistant", response.text)))[1][:start]
    return ids, mask


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    n = min(len(a), len(b))
    return next((k for k in range(n) if a[k] != b[k]), n)


def walk(context: Context, purpose: str, total: int, count: int) -> list[int]:
    """The next ``count`` of ``total`` places: a fixed shuffle, walked through round by round, reshuffled at its end."""
    chosen: list[int] = []
    order: Sequence[int] = ()
    for position in range(context.round * count, (context.round + 1) * count):
        epoch, index = divmod(position, total)
        if not chosen or index == 0:
            order = np.random.default_rng(int(digest([context.seed, purpose, epoch]), 16)).permutation(total).tolist()
        chosen.append(order[index])
    return chosen


def draw_prompts(context: Context, count: int) -> list[LoopGroup]:
    """The next ``count`` prompts of a walk through all of them (:func:`walk`).

    Prompts that fill the model's context are left out and counted in ``state["dropped_prompts"]``.

    Raises:
        InputError: there are no prompts, or none of these leaves room for a response.
    """
    if not context.prompts:
        raise InputError("this method samples, and there are no prompts", mend="Give --prompts FILE")
    chosen = [context.prompts[k] for k in walk(context, "prompts", len(context.prompts), count)]
    chat = context.policy.chat
    groups = fitting(context, [LoopGroup(p, chat.prompt_ids(p.messages)) for p in chosen])
    context.ledger.add(prompts_seen=len(groups))
    return groups


def fitting(context: Context, groups: list[LoopGroup]) -> list[LoopGroup]:
    """Without the prompts that fill the model's context, which are counted in ``state["dropped_prompts"]``.

    Raises:
        InputError: none is left.
    """
    room = context.room
    kept = [g for g in groups if not room or len(g.prompt_ids) < room]
    if len(kept) < len(groups):
        context.state["dropped_prompts"] = context.state.get("dropped_prompts", 0) + len(groups) - len(kept)
    if groups and not kept:
        raise InputError(
            "no prompt leaves room for a response in the model's context",
            found=f"{min(len(g.prompt_ids) for g in groups)} tokens or more",
            expected=f"fewer than {room}",
            mend="Shorten the prompts or take a model with a longer context",
        )
    return kept


def sample(
    context: Context,
    groups: list[LoopGroup],
    n: int,
    max_tokens: int,
    temperature: float = 1.0,
    purpose: str = "rollout",
    *,
    prefix: Sequence[int] = (),
    policy: Policy | None = None,
) -> list[LoopGroup]:
    """``n`` draws for each group from the current policy, or from another one of the same vocabulary.

    Draw k of a prompt depends on (seed, round, prompt, k) alone; a prompt that stands twice goes on counting. The draw
    is conditioned on ``prefix`` after the prompt, which stays out of the group. Control tokens are never drawn.

    Raises:
        Diverged: the policy gives no finite probabilities.
    """
    policy = policy or context.policy
    rows = [[*g.prompt_ids, *prefix] for g in groups for _ in range(n)]
    if rows and not next_logps(policy.model, *pad([min(rows, key=len)], policy.chat.pad_id)).isfinite().all():
        raise Diverged(
            f"the policy gives no finite probabilities after step {context.ledger.steps}. Lower learning_rate; "
            "the last checkpoint is kept"
        )
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
        banned=(*policy.banned_ids, *context.control.values()),
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
    """The reward of every response, as ``scores`` of each group, after the run's :mod:`interventions` on rewards.

    With ``omit_unended`` the responses that were cut are left out first (:func:`drop_unended`).
    """
    if context.training.omit_unended and groups:
        groups = drop_unended(context, groups)
        if not groups:
            raise interventions.none_ended(context)
    values = asked(context, [g.prompt for g in groups for _ in g.texts], [t for g in groups for t in g.texts])
    if groups:
        tokens = [len(r) for g in groups for r in g.responses]
        values = interventions.on_rewards(values, tokens, context.training, context.state)
    out, start = [], 0
    for group in groups:
        out.append(replace(group, scores=values[start : start + len(group.texts)]))
        start += len(group.texts)
    count_equal(context, [g.rewards for g in out])
    return out


def asked(context: Context, prompts: Sequence[Prompt], texts: Sequence[str]) -> np.ndarray:
    """The reward's number for each text ``[N]``, entered in the ledger.

    Raises:
        InputError: there is no reward, or it did not give one finite number for each text.
    """
    if context.scorer is None:
        raise InputError("this method needs a reward, and none is given", mend="Give --reward rm/PATH or another judge")
    said = list(context.scorer(prompts, texts))
    if len(said) != len(texts):
        raise InputError("the reward gave a wrong number of values", found=len(said), expected=len(texts))
    try:
        values = np.array(said, dtype=np.float64).reshape(len(texts))
    except (TypeError, ValueError):
        raise InputError("the reward gave something else than numbers", found=said[:3]) from None
    if not np.isfinite(values).all():
        wrong = str(said[int(np.argmin(np.isfinite(values)))])
        raise InputError("the reward gave a value that is not finite", found=wrong, expected="a number for each text")
    context.ledger.add(scorer_calls=len(values))
    return values


def count_equal(context: Context, rewards: Sequence[np.ndarray]) -> None:
    """Count in the state what a reward did not tell apart: ``groups_of_equal_rewards`` among the groups of several
    responses, and ``rounds_of_equal_rewards`` where a whole round of them is equal."""
    rounds = [np.concatenate(rewards)] if rewards else []
    for name, parts in (("groups_of_equal_rewards", rewards), ("rounds_of_equal_rewards", rounds)):
        equal = sum(len(part) > 1 and bool(np.ptp(part) == 0) for part in parts)
        if equal:
            context.state[name] = context.state.get(name, 0) + equal


def pair(
    context: Context, groups: list[LoopGroup], choose: Callable[[np.ndarray, np.random.Generator], np.ndarray]
) -> list[LoopGroup]:
    """Preferences of every group, chosen from its scores by a function of :mod:`pippin.align.ranking`.

    A group in which nothing is better than anything else is left out and counted (:func:`without_opinion`). The draw of
    a group depends on (seed, round, prompt, its place among equal prompts) alone.
    """
    seen: Counter[str] = Counter()
    out = []
    for group in groups:
        place, seen[group.prompt.id] = seen[group.prompt.id], seen[group.prompt.id] + 1
        rng = np.random.default_rng(int(digest([context.seed, "pairs", context.round, group.prompt.id, place]), 16))
        pairs = choose(group.rewards, rng).tolist()
        out.append(replace(group, preferences=tuple(Preference(i, j) for i, j in pairs)))
    return without_opinion(context, out)


def without_opinion(context: Context, groups: list[LoopGroup]) -> list[LoopGroup]:
    """The groups that have a preference; the others are counted in ``state["tied_groups"]``. Where none has one, all of
    them with a pair of weight 0: a round without gradient is a round."""
    kept = [g for g in groups if g.preferences]
    if len(kept) < len(groups):
        context.state["tied_groups"] = context.state.get("tied_groups", 0) + len(groups) - len(kept)
    nothing = (Preference(0, 1, 0.5, 0.0),)
    return kept or [replace(g, preferences=nothing) for g in groups if len(g.responses) > 1]


def drop_unended(context: Context, groups: list[LoopGroup]) -> list[LoopGroup]:
    """Without responses that were cut at the length limit, which are counted in ``state["dropped_unended"]``; groups
    left empty are dropped."""
    kept = [g.keep([k for k, e in enumerate(g.ended) if e]) for g in groups]
    unended = sum(not e for g in groups for e in g.ended)
    if unended:
        context.state["dropped_unended"] = context.state.get("dropped_unended", 0) + unended
    return [g for g in kept if g.responses]


def best(context: Context, groups: list[LoopGroup]) -> list[LoopGroup]:
    """The response with the highest score of each group; the first of equals."""
    return [g.keep([int(np.argmax(g.scores))]) for g in groups if g.scores is not None]
