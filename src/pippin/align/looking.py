"""A run looks at itself: now and then the same few prompts are answered by the policy as it is, and scored.

The first policy is looked at before the first step and the last one at the end. Between them a look is due when the
steps have grown by half an octave since the one before, as long as all looks together, with one more for the end, draw
and read less than a twentieth of the tokens that were trained on. So a look's place follows from the run's inputs
alone. A judge that asks a model at a price is asked at the first and the last look only.

A look has draws of its own, a ledger of its own and changes nothing of the run.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pippin.align import adapters, sources
from pippin.align.method import Method
from pippin.align.networks import Networks
from pippin.align.sources import Context, LoopGroup, Scorer
from pippin.align.watch import Look, reward_summary, summary
from pippin.core.errors import InputError
from pippin.core.run import Ledger
from pippin.core.types import digest
from pippin.lm.forward import next_logps, pad, token_kl
from pippin.lm.policy import Policy
from pippin.lm.threads import one_thread_if_small
from pippin.stats import best_of_n, best_of_n_kl

Json = dict[str, Any]

FILE = "watch.jsonl"
DRAWS = 4  # of each prompt: the fewest that give a correlation within a prompt some sense
SHARE = 0.05  # of the tokens trained on, at most, for looks between the first and the last
GROWTH = math.sqrt(2)  # of the steps from one look to the next
TOKENS = 64  # of a response, where the method does not sample and so states no length
COPIED = 2**30  # bytes of weights up to which a copy of the first policy is kept for the KL
_ROWS = 32  # read at once for the KL
_EXACT = "exact: over the whole vocabulary at every token of one draw a prompt"
_BOUND = "bound: log n - (n-1)/n"


def first_policy(networks: Networks) -> Policy | None:
    """The policy as it is now, kept from training: the method's reference, the adapter switched off, or a copy; None
    where the weights are too large for a copy."""
    if networks.reference is not None:
        return networks.reference
    policy = networks.policy
    if adapters.is_adapted(policy.model):
        return adapters.reference(policy)
    if sum(p.numel() * p.element_size() for p in policy.model.parameters()) > COPIED:
        return None
    copy = policy.clone()
    copy.model.requires_grad_(False)
    return copy


def asks_models(judging: Any) -> bool:
    """Whether a judge, or a member of a panel, asks a model for its verdicts."""
    return hasattr(judging, "forecast") or any(map(asks_models, getattr(judging, "judges", ())))


def prompts_of(context: Context, method: Method) -> tuple[list[LoopGroup], str, int]:
    """``watch_prompts`` prompts to look at, which they are, and how many were left out since they fill the context.

    Development prompts where there are any, else prompts that are trained on. Fixed by the seed.
    """
    pool, on = context.development, "development prompts"
    if not pool:
        pool, on = context.prompts or [g.prompt for g in context.data], "training prompts"
    distinct = list({p.id: p for p in pool}.values())
    order = np.random.default_rng(int(digest([context.seed, "watch"]), 16)).permutation(len(distinct))
    prefix = method.decoding(context.config, context.state).get("prefix", "")
    groups, left_out = [], 0
    for place in order.tolist():
        if len(groups) == context.training.watch_prompts:
            break
        group = LoopGroup(distinct[place], context.policy.chat.prompt_ids(distinct[place].messages, prefix))
        fits = len(group.prompt_ids) < context.max_length
        groups += [group] * fits
        left_out += not fits
    return groups, on, left_out


@dataclass
class Watch:
    """The looks of one run.

    Attributes:
        context: the run's.
        method: the run's.
        first: the policy as it was at the start, or None: then no KL is known.
        folder: where ``watch.jsonl`` stands. Looks that it holds are taken over.
        dear: of ``proxy`` and ``gold``, what is asked at the first look and the last only.
    """

    context: Context
    method: Method
    first: Policy | None
    folder: Path
    dear: frozenset[str] = frozenset()
    looks: list[Look] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        place = self.folder / FILE
        if place.is_file():
            self.looks = [Look.from_row(json.loads(line)) for line in place.read_text().splitlines()]
        self.groups, self.on, self.left_out = prompts_of(self.context, self.method)

    def observe(self, step: int) -> None:
        """Look where a look is due."""
        if self._due(step):
            self._look(step, whole=step == 0)

    def finish(self, step: int, kept: str = "") -> Json:
        """The last look, unless the policy was just looked at, and what all of them say.

        Args:
            step: optimiser steps done.
            kept: why the policy is not that of the last step.
        """
        if len(self.groups) < 2:
            return _none("fewer than two prompts to look at")
        if not self.looks or self.looks[0].step:
            return _none("the first policy was not looked at: the run goes on from a checkpoint without looks")
        last = self.looks[-1]
        if step and (last.step != step or last.kept != kept or self._skipped(last)):
            self._look(step, whole=True, kept=kept)
        made = summary(
            self.looks, [g.prompt.id for g in self.groups], on=self.on, kl=_EXACT if self.first else "not known"
        )
        if self.looks[-1].step != step:
            made["absent"]["last"] = f"the policy after step {step} gives no finite probabilities"
        if self.left_out:
            made["absent"]["prompts"] = f"{self.left_out} left out: they fill the context"
        return made | {"cost": _cost(self.looks, self.seconds)}

    def _due(self, step: int) -> bool:
        if not self.looks:
            return step == 0 and len(self.groups) > 1
        last, spent = self.looks[-1], sum(look.tokens for look in self.looks)
        affordable = spent + 2 * last.tokens <= SHARE * self.context.ledger.gradient_tokens
        return affordable and step >= max(1, math.ceil(GROWTH * last.step))

    def _skipped(self, look: Look) -> bool:
        """Whether this look left out a judge for its price."""
        return any(getattr(look, name) is None and name not in look.absent for name in self.dear)

    def _look(self, step: int, *, whole: bool, kept: str = "") -> None:
        """Look, and write down what was seen; nothing where the policy gives no finite probabilities."""
        started = time.monotonic()
        with torch.inference_mode(), one_thread_if_small(self.context.policy.model):
            look = self._seen(step, whole, kept) if self._finite() else None
        if look is not None:
            row = look.to_row()
            if self.looks and self.looks[-1].step == step and not kept:  # the same look, now with the dear judges
                self.looks.pop()
                _write(self.folder / FILE, [seen.to_row() for seen in self.looks])
            self.looks.append(Look.from_row(row))
            with (self.folder / FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        self.seconds += time.monotonic() - started

    def _finite(self) -> bool:
        ids, attention = pad([self.groups[0].prompt_ids], self.context.policy.chat.pad_id)
        return bool(next_logps(self.context.policy.model, ids, attention).isfinite().all())

    def _seen(self, step: int, whole: bool, kept: str) -> Look:
        groups, tokens = draw(self.context, self.groups, DRAWS)
        kl, absent = None, {}
        if self.first is None:
            absent["kl"] = "the method keeps no reference, and the model is too large for a copy beside it"
        elif step == 0 and not self._prefix():
            kl = np.zeros(len(groups))  # they are equal
        else:
            kl, read = self._kl(groups)
            tokens += read
        scores: dict[str, np.ndarray] = {}
        for name, scorer in (("proxy", self.context.scorer), ("gold", self.context.evaluate)):
            if scorer is None or (name in self.dear and not whole):
                continue
            try:
                scores[name] = scored(self.context, scorer, groups)
            except InputError as error:
                absent[name] = str(error)
        return Look(step, tokens, *_shape(groups), kl=kl, kept=kept, absent=absent, **scores)

    def _prefix(self) -> str:
        return self.method.decoding(self.context.config, self.context.state).get("prefix", "")

    def _kl(self, groups: Sequence[LoopGroup]) -> tuple[np.ndarray, int]:
        """KL(policy || first policy) of the first draw of each prompt, ``[P]`` in nats, and the tokens read. The first
        policy reads no control prefix, and control tokens are nobody's choice."""
        assert self.first is not None
        chat, out, read = self.context.policy.chat, [], 0
        for start in range(0, len(groups), _ROWS):
            part = groups[start : start + _ROWS]
            with_prefix = _laid_out([list(g.prompt_ids) for g in part], part, chat.pad_id)
            plain = _laid_out([chat.prompt_ids(g.prompt.messages) for g in part], part, chat.pad_id)
            kl_N_T = token_kl(
                self.context.policy.model, self.first.model, *with_prefix, ids_b_N_T=plain[0],
                attention_b_N_T=plain[1], mask_b_N_T=plain[2], without=tuple(self.context.control.values()),
            )  # fmt: skip
            out += kl_N_T.sum(-1).tolist()
            read += int(with_prefix[1].sum() + plain[1].sum())
        return np.array(out), read


def chosen(context: Context, method: Method, n: int) -> Json:
    """The look at a policy that only chooses among ``n`` draws: nothing was trained, so 1, 2, 4 ... n of the same draws
    stand for the steps, and the KL is at most log n - (n-1)/n. As many draws in all as any look has."""
    started = time.monotonic()
    most = max(2, context.training.watch_prompts * DRAWS // n)
    groups, on, _ = prompts_of(context, method)
    groups = groups[:most]
    if len(groups) < 2:
        return _none("fewer than two prompts to look at")
    groups, tokens = draw(context, groups, n)
    assert context.scorer is not None
    absent: dict[str, str] = {}
    try:
        proxy = scored(context, context.scorer, groups)
    except InputError as error:
        return _none(str(error))
    gold = None
    if context.evaluate is not None:
        try:
            gold = scored(context, context.evaluate, groups)
        except InputError as error:
            absent["gold"] = str(error)
    length, ended = _shape(groups)
    looks = [Look(1, tokens, length, ended, np.zeros(len(groups)), proxy, gold, absent=absent)]
    for k in sorted({2**power for power in range(1, n.bit_length())} | {n}) if n > 1 else ():
        told = [None if v is None else best_of_n(proxy, v, k)[:, None] for v in (length, ended * 1.0, proxy, gold)]
        kl = np.full(len(groups), best_of_n_kl(k))
        looks.append(Look(k, 0, told[0], told[1], kl, told[2], told[3], absent=absent))  # pyright: ignore[reportArgumentType]
    made = summary(looks, [g.prompt.id for g in groups], on=on, kl=_BOUND, form="best_of_n", steps="n")
    return made | {"cost": _cost(looks[:1], time.monotonic() - started)}


def reward_model(context: Context, scores: Sequence[float]) -> Json:
    """What a trained reward model's scores say of length. ``scores`` are those of the first responses of the data, as
    many as there are; groups that were not scored whole are left out."""
    groups, total = [], 0
    for group in context.data:
        if total + len(group.responses) > len(scores):
            break
        groups.append(group)
        total += len(group.responses)
    chat = context.policy.chat
    lengths = [sum(chat.example(g.prompt.messages, r.text)[1]) for g in groups for r in g.responses]
    return reward_summary(scores[:total], lengths, groups, context.preferences[: len(groups)])


def draw(context: Context, groups: Sequence[LoopGroup], count: int) -> tuple[list[LoopGroup], int]:
    """``count`` draws a prompt from the current policy at temperature 1, the same seeds at every look, and the tokens
    that were drawn and read. The run's ledger and state do not hear of it."""
    apart = replace(context, round=0, ledger=Ledger(), state={})
    limit = getattr(context.config, "max_completion_length", TOKENS)
    drawn = sources.sample(apart, list(groups), count, limit, purpose="watch")
    return drawn, apart.ledger.policy_tokens_sampled + sum(len(g.prompt_ids) for g in groups)


def scored(context: Context, scorer: Scorer, groups: Sequence[LoopGroup]) -> np.ndarray:
    """The score of every draw ``[P, K]``; the run's ledger does not hear of it.

    Raises:
        InputError: the judge gives no numbers, misses one, or gives one that is not finite.
    """
    apart = replace(context, scorer=scorer, ledger=Ledger())
    prompts = [g.prompt for g in groups for _ in g.texts]
    return sources.asked(apart, prompts, [t for g in groups for t in g.texts]).reshape(len(groups), -1)


def _laid_out(
    prompts: Sequence[list[int]], groups: Sequence[LoopGroup], pad_id: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, attention and response mask ``[N, T]`` of each group's first draw after what stands before it."""
    ids, attention = pad([[*before, *g.responses[0]] for before, g in zip(prompts, groups, strict=True)], pad_id)
    masks = [[0] * len(before) + [1] * len(g.responses[0]) for before, g in zip(prompts, groups, strict=True)]
    return ids, attention, pad(masks, 0)[0].bool()


def _shape(groups: Sequence[LoopGroup]) -> tuple[np.ndarray, np.ndarray]:
    """Lengths in tokens and whether each response ended, ``[P, K]``."""
    return np.array([[len(r) for r in g.responses] for g in groups], float), np.array([g.ended for g in groups], bool)


def _cost(looks: Sequence[Look], seconds: float) -> Json:
    """What looking took; none of it is in the run's ledger."""
    calls = {f"{name}_calls": sum(v.size for look in looks if (v := getattr(look, name)) is not None)
             for name in ("proxy", "gold")}  # fmt: skip
    return {"looks": len(looks), "tokens": sum(look.tokens for look in looks), **calls, "seconds": round(seconds, 3)}


def _none(why: str) -> Json:
    return {"absent": {"watch": why}, "warnings": []}


def _write(place: Path, rows: Sequence[Json]) -> None:
    place.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
