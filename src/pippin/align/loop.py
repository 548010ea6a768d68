"""The one training loop: the only place that takes a step. It knows no method; a method fills its slots
(:mod:`method`).

    for each round:
        groups = pipeline(policy, data or prompts)            no gradient
        batch  = shape(annotate(layout(groups)))              no gradient
        for each epoch, for each optimiser batch of groups:   loss, step
        state  = update(state)

Resuming is running again with the same folder: the last checkpoint holds weights, optimiser, state, position and the
annotations made so far, and what was drawn and judged since lies beside it, so that the rest of the run is bit for bit
what it would have been and nothing is paid for twice.
"""

from __future__ import annotations

import copy
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pippin.align import checkpoint, distributed
from pippin.align import optimiser as optimisers
from pippin.align.method import Method, State, Term, Training
from pippin.align.networks import Networks
from pippin.align.shapes import Batch, Example, collate, cut, denominator, reduce
from pippin.align.sources import Context
from pippin.core.errors import InputError
from pippin.core.run import Ledger
from pippin.core.types import digest
from pippin.lm.threads import one_thread_if_small

_EMPTY = "Check the data, max_length, and where the method samples max_completion_length and how many it draws"
_spent = attrgetter("policy_tokens_sampled", "scorer_calls", "judge_calls")  # what cannot be had again for nothing
Log = Callable[[Mapping[str, float]], None]


@dataclass
class Progress:
    """Where a run stands; saved with every checkpoint."""

    round: int = 0
    step: int = 0  # optimiser steps so far, over all rounds
    step_in_round: int = 0
    best_score: float | None = None
    best_round: int | None = None
    lines: int = 0  # of metrics, logged so far
    stored: bool = False  # whether this round's examples were kept: they cannot be made again
    state: State = field(default_factory=dict)


def train(
    method: Method,
    context: Context,
    networks: Networks,
    *,
    folder: Path | None = None,
    log: Log | None = None,
    evaluate: Callable[[], float] | None = None,
    observe: Callable[[int], None] | None = None,
) -> Progress:
    """Run a method to its end on these networks, in place.

    Args:
        folder: where checkpoints go; None keeps none. A checkpoint found there is resumed.
        log: receives a line of metrics every ``logging_steps`` steps.
        evaluate: a score of the current policy on development prompts; higher is better.
        observe: hears how many optimiser steps are done: 0 before the first, then after every one, in the first
            process only. It looks at the policy and changes nothing.

    Raises:
        Diverged: the loss or the gradient is not finite, or the loss is beyond ``max_loss``.
        InputError: the data leave nothing to train on.
    """
    config, training = context.config, context.training
    progress = Progress(state=context.state)
    optimiser = optimisers.make(method, networks, config, training)
    keep = checkpoint.Keeper(folder, networks, optimiser)
    first = keep.copy() if method.restart(config) else {}
    notes = keep.resume(progress, context)
    context.state = progress.state
    observe = observe if distributed.leads() else None

    def told(line: Mapping[str, float]) -> None:
        progress.lines += 1
        if log is not None:
            log(line)

    with one_thread_if_small(networks.policy.model):
        if observe is not None and progress.step == 0:
            observe(0)
        _rounds(method, context, networks, optimiser, progress, keep, first, notes, told, evaluate, observe)
    if training.load_best_model_at_end and progress.best_score is not None:
        keep.restore_best()
    context.ledger.add(wall_clock=time.monotonic() - keep.started)
    return progress


def _rounds(
    method: Method,
    context: Context,
    networks: Networks,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    keep: checkpoint.Keeper,
    first: checkpoint.Weights,
    notes: checkpoint.Notes | None,
    log: Log,
    evaluate: Callable[[], float] | None,
    observe: Callable[[int], None] | None,
) -> None:
    """Every round that is not yet done."""
    config, training = context.config, context.training
    rounds = method.rounds(config)
    while progress.round < rounds and not (progress.round and context.over(progress.step)):
        context.round = progress.round
        pool = _pool(method, context, networks, progress, keep, notes)
        if method.restart(config) and progress.step_in_round == 0 and progress.round and pool.examples:
            keep.restore(first)
            optimiser.state.clear()
        notes = None
        if pool.examples:
            _one_round(method, context, networks, optimiser, pool, progress, keep, log, observe)
        else:
            context.state["empty_rounds"] = context.state.get("empty_rounds", 0) + 1
        if method.update is not None and pool.examples:
            context.state = progress.state = method.update(progress.state, pool.figures, config)
        progress.round, progress.step_in_round = progress.round + 1, 0
        due = training.eval_steps and (progress.round % training.eval_steps == 0 or progress.round == rounds)
        if evaluate is not None and due:
            score = distributed.from_first(evaluate)
            log({"step": progress.step, "round": progress.round, "eval/score": score})
            if progress.best_score is None or score > progress.best_score:
                progress.best_score, progress.best_round = score, progress.round
                keep.remember_best()
        keep.save(progress, context, None, every=training.save_steps)


def _pool(
    method: Method,
    context: Context,
    networks: Networks,
    progress: Progress,
    keep: checkpoint.Keeper,
    notes: checkpoint.Notes | None,
) -> Pool:
    """The examples of this round: made from the policy so far, or as they were made before the run was cut."""
    fresh = progress.step_in_round == 0
    stored = distributed.from_first(lambda: keep.round(progress.round, needed=progress.stored and not fresh))
    before = copy.deepcopy((context.state, context.ledger))
    if stored is not None:
        progress.stored = True
        pool = Pool(stored.batch, method.annotate(context.config) if method.shape is None else ())
        pool.figures.update(stored.figures)
        if notes is not None:
            pool.examples = notes.apply(pool.examples)
        context.state = stored.state
        context.ledger = replace(stored.ledger, wall_clock=before[1].wall_clock, peak_memory=before[1].peak_memory)
    else:
        pool = _prepare(method, context, networks, notes)
        progress.stored = method.shape is not None or _spent(context.ledger) != _spent(before[1])
        if progress.stored and fresh:
            keep.keep_round(progress.round, pool, context, every=context.training.save_steps)
    if not fresh:  # a round that goes on was already counted
        context.state, context.ledger = before
    progress.state = context.state
    if notes is not None:
        pool.window.update({name: [values] for name, values in notes.window.items()})
    return pool


class Pool:
    """The examples of one round. Annotations are written on them when they are first needed, and kept."""

    def __init__(self, batch: Batch, lazy: tuple[str, ...]) -> None:
        self.batch, self.lazy, self.figures = batch, lazy, dict[str, float]()
        self.window: dict[str, list[torch.Tensor]] = defaultdict(list)  # metrics since the last logged line
        self.examples = list(batch.examples)
        self.rows_of: dict[int, list[int]] = defaultdict(list)
        for i, example in enumerate(self.examples):
            self.rows_of[example.group].append(i)
        self.pairs_of: dict[int, list[int]] = defaultdict(list)
        for k, (i, _) in enumerate(batch.pairs):
            self.pairs_of[self.examples[i].group].append(k)
        self.groups = list(self.rows_of)

    def order(self, seed: int) -> list[int]:
        """All groups, shuffled within their stream, the streams interleaved so that each batch has its share of all."""
        shuffled = [self.groups[i] for i in np.random.default_rng(seed).permutation(len(self.groups))]
        by_stream: dict[str, list[int]] = defaultdict(list)
        for group in shuffled:
            by_stream[self.examples[self.rows_of[group][0]].stream].append(group)
        if len(by_stream) == 1:
            return shuffled
        placed = [((k + 0.5) / len(groups), stream, group)
                  for stream, groups in by_stream.items() for k, group in enumerate(groups)]  # fmt: skip
        return [group for _, _, group in sorted(placed)]

    def take(self, groups: list[int]) -> tuple[Batch, list[int]]:
        """The sub-batch of these groups with its pairs renumbered, and its row numbers in the pool."""
        rows = [i for g in groups for i in self.rows_of[g]]
        place = {row: k for k, row in enumerate(rows)}
        pairs = [k for g in groups for k in self.pairs_of[g]]
        index = np.array([[place[i], place[j]] for i, j in self.batch.pairs[pairs]], dtype=np.int64).reshape(-1, 2)
        examples = tuple(self.examples[i] for i in rows)
        return Batch(examples, index, self.batch.p[pairs], self.batch.weight[pairs]), rows

    def annotate(self, rows: list[int], networks: Networks, names: tuple[str, ...], bf16: bool) -> None:
        """Write the missing annotations of these rows, computed on them as one micro-batch, as training computes."""
        for name in names:
            if all(name in self.examples[i].token for i in rows):
                continue
            tensors = collate(Batch(tuple(_bare(self.examples[i]) for i in rows)), networks.policy.chat.pad_id)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                values = networks.note(tensors, name).float().numpy()
            mask = tensors.mask_N_T.numpy()
            for k, i in enumerate(rows):
                self.examples[i] = self.examples[i].with_tokens(**{name: values[k][mask[k]].astype(np.float64)})

    def annotate_parts(
        self, parts: Sequence[list[int]], networks: Networks, names: tuple[str, ...], bf16: bool
    ) -> None:
        """As :meth:`annotate` of each part, shared out among the processes."""
        lacking = [part for part in parts if not all(name in self.examples[i].token for i in part for name in names)]
        for part in distributed.mine(lacking):
            self.annotate(part, networks, names, bf16)
        if distributed.size() > 1:
            rows = [i for part in distributed.mine(lacking) for i in part]
            for told in distributed.gathered({i: {name: self.examples[i].token[name] for name in names} for i in rows}):
                for i, arrays in told.items():
                    self.examples[i] = self.examples[i].with_tokens(**arrays)


def _bare(example: Example) -> Example:
    return Example(example.ids, example.mask, example.group)


def _groups(method: Method, context: Context) -> list[Any]:
    """What the pipeline gives. With several processes the first one draws and asks, and the others hear of it."""

    def made() -> tuple[list[Any], State, Ledger]:
        groups: list[Any] = []
        for transform in method.pipeline:
            groups = transform(context, groups)
        return groups, context.state, context.ledger

    groups, state, ledger = distributed.from_first(made)
    if state is not context.state:  # the same object is part of the run's progress
        context.state.clear()
        context.state.update(state)
        context.ledger = ledger
    return groups


def _prepare(method: Method, context: Context, networks: Networks, notes: checkpoint.Notes | None) -> Pool:
    """Groups of this round, laid out, annotated and shaped."""
    groups = _groups(method, context)
    assert method.layout is not None
    batch = method.layout(groups, context.config, context)
    if not batch.examples and context.round == 0:  # a later round may find nothing in what the policy has become
        counted = {name: value for name, value in context.state.items() if isinstance(value, int)}
        raise InputError("nothing to train on: no example is left", found=counted or None, mend=_EMPTY)
    if not batch.examples:
        context.state.pop("figures", None)
        return Pool(batch, ())
    names = method.annotate(context.config)
    pool = Pool(batch, names if method.shape is None else ())
    if notes is not None:
        pool.examples = notes.apply(pool.examples)
    if method.shape is not None:
        order = sorted(range(len(pool.examples)), key=lambda i: len(pool.examples[i].ids))
        parts = [order[start : start + 64] for start in range(0, len(order), 64)]
        pool.annotate_parts(parts, networks, names, context.training.bf16)
        shaped = method.shape(
            Batch(tuple(pool.examples), batch.pairs, batch.p, batch.weight), context.config, context.state
        )
        pool = Pool(shaped, ())
    pool.figures.update(context.state.pop("figures", {}))
    return pool


def _one_round(
    method: Method,
    context: Context,
    networks: Networks,
    optimiser: torch.optim.Optimizer,
    pool: Pool,
    progress: Progress,
    keep: checkpoint.Keeper,
    log: Log,
    observe: Callable[[int], None] | None,
) -> None:
    """Every optimiser step of one round that is not yet done."""
    config, training = context.config, context.training
    size = training.per_device_train_batch_size * training.gradient_accumulation_steps
    per_epoch = math.ceil(len(pool.groups) / size)
    steps = per_epoch * training.num_train_epochs * method.passes(config)
    before = progress.round * steps if method.shape is not None else 0  # a round may be longer than those before it
    total = steps * (method.rounds(config) if method.shape is not None else 1)
    ends_early = 0 <= training.max_steps < total
    if ends_early:
        total = training.max_steps
    window = pool.window
    terms = [t for t in method.terms if t.active(config)]
    for position in range(progress.step_in_round, steps):
        if context.over(progress.step):
            return
        epoch, index = divmod(position, per_epoch)
        order = pool.order(int(digest([context.seed, "order", progress.round, epoch]), 16))
        groups = order[index * size : (index + 1) * size]
        moment = progress.step if ends_early and method.shape is not None else before + position
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * optimisers.schedule(moment, total, training)
        optimiser.zero_grad(set_to_none=True)
        loss, metrics, tokens = accumulate(terms, networks, pool, groups, config, training, method.couple)
        context.ledger.add(gradient_tokens=tokens)
        for name, values in metrics.items():
            window[name] += values
        norm = optimisers.clip(optimiser, training.max_grad_norm)
        optimisers.check(loss, norm, training, progress.step)
        optimiser.step()
        progress.step += 1
        progress.step_in_round = position + 1
        context.ledger.add(steps=1)
        window["loss"].append(torch.tensor([loss]))
        window["grad_norm"].append(torch.tensor([norm]))
        last = position + 1 == steps or context.over(progress.step)
        due = progress.step == 1 or progress.step % max(1, training.logging_steps) == 0
        if due or (last and progress.round + 1 == method.rounds(config)):
            joined = {name: torch.cat(values) for name, values in sorted(window.items())}
            line = {name: values.mean().item() for name, values in joined.items() if len(values)}
            lr = optimiser.param_groups[0]["lr"]
            log({"step": progress.step, "round": progress.round, **line, **pool.figures, "learning_rate": lr})
            window.clear()
        if observe is not None:
            observe(progress.step)
        if not last:  # the end of the round is saved with what it leads to
            keep.save(progress, context, pool, every=training.save_steps)


def accumulate(
    terms: Sequence[Term],
    networks: Networks,
    pool: Pool,
    groups: list[int],
    config: Any,
    training: Training,
    couple: Callable[[Networks, Batch, Any], Mapping[str, float]] | None = None,
) -> tuple[float, dict[str, list[torch.Tensor]], int]:
    """Add the gradient of one optimiser batch to the networks, micro-batch by micro-batch.

    Every term is divided by its denominator over the whole batch, and what couples its examples is computed on the
    whole batch before, so how it is cut changes nothing.

    Returns:
        The loss, the terms' metrics (unreduced, a tensor per micro-batch), and the tokens that were forwarded, once for
        each trained network.
    """
    most = min(training.per_device_train_batch_size, math.ceil(len(groups) / distributed.size()))
    sizes = [networks.size([pool.examples[i] for i in pool.rows_of[g]]) for g in groups]
    parts = [[groups[k] for k in part] for part in cut(sizes, most, distributed.size())]
    pool.annotate_parts([pool.take(part)[1] for part in parts], networks, pool.lazy, training.bf16)
    whole, _ = pool.take(groups)
    coupled = couple(networks, whole, config) if couple else None
    over = {t.name: denominator(whole, t.how(config), t.rows, t.constant(config)) for t in terms}
    needs = frozenset().union(*(t.needs for t in terms))
    total, tokens = 0.0, 0
    metrics: dict[str, list[torch.Tensor]] = defaultdict(list)
    for part in distributed.mine(parts):
        tensors = collate(pool.take(part)[0], networks.policy.chat.pad_id, coupled)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=training.bf16):
            outputs = networks.say(tensors, needs)
        loss = torch.zeros(())
        for term in terms:
            unreduced, said = term.loss(outputs, tensors, config)
            if over[term.name] > 0:
                part_of = reduce(unreduced, tensors, term.how(config), over[term.name], term.rows)
                loss = loss + term.weight(config) * part_of
            for name, values in said.items():
                metrics[name].append(values.detach().flatten())
        if loss.requires_grad:
            loss.backward()
        total += loss.item()
        tokens += int(tensors.attention_N_T.sum()) * len(networks.trained())  # a critic reads them too
    for module in networks.trained().values():
        distributed.add_gradients(module.parameters())
    everywhere = distributed.gathered((total, tokens, dict(metrics)))
    joined: dict[str, list[torch.Tensor]] = defaultdict(list)
    for _, _, said in everywhere:
        for name, values in said.items():
            joined[name] += values
    return sum(t for t, _, _ in everywhere), joined, sum(n for _, n, _ in everywhere)
