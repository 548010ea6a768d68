"""The entry: names and files in, a saved policy (or reward model) out, with all that a figure needs to be traced back.

A run's folder is a model folder that ``transformers`` loads, with ``pippin_run.json`` (manifest, ledger, state, closing
metrics), ``metrics.jsonl`` (one line per logging step) and the model card ``README.md`` beside it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pippin.align import adapters, checkpoint, distributed, interventions, looking, loop, networks, sources
from pippin.align.asking import comparer, feedback_of, scorer, segments
from pippin.align.card import write_card
from pippin.align.method import Method, State
from pippin.align.settings import Settings
from pippin.align.trackers import Mirror
from pippin.core import catalog
from pippin.core.errors import InputError, UnknownName
from pippin.core.run import Ledger, data_digest, environment, peak_memory, write_json
from pippin.core.types import Group, Prompt, canonical, to_row
from pippin.feedback.collapse import Rule, collapse
from pippin.judge.resolve import resolve
from pippin.lm.chat import Chat
from pippin.lm.hf import load_policy
from pippin.lm.policy import Policy
from pippin.lm.reward import Gauge, RewardModel, load_reward

FILE = "pippin_run.json"
FEEDBACK = "Give --feedback gold, a model, or python/FILE.py:function"
DEVELOP_TOKENS = 64  # of a development response, where the method does not sample and so states no length
COUNTED = ("prompts_seen", "policy_tokens_sampled", "scorer_calls", "judge_calls", "gradient_tokens", "steps")
"""Columns of the ledger that a budget may name: what each step adds to, alike on every machine."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A finished run: where it lies, what made it, what it cost."""

    folder: Path
    manifest: Json
    ledger: Ledger
    state: State
    metrics: Json
    watch: Json  # what the run saw of itself (:mod:`watch`); empty where it did not look


@distributed.together()
def align(
    name: str,
    settings: Mapping[str, Any],
    *,
    model: str,
    out: Path,
    data: Sequence[Group] = (),
    prompts: Sequence[Prompt] = (),
    reward: str | None = None,
    development: Sequence[Prompt] = (),
    judge: str | None = None,
    feedback: str | None = None,
    template: str | None = None,
    rule: Rule | None = None,
    budget: Mapping[str, float] | None = None,
    report: Callable[[Mapping[str, float]], None] | None = None,
    mirror: Mirror | None = None,
) -> Run:
    """Train (or choose) a policy by a method and save it in ``out``.

    Args:
        name: the method, as in ``pippin list methods``.
        settings: the method's and the loop's settings in one flat mapping.
        model: the policy to start from, as in ``pippin respond``.
        data: demonstrations, or groups with judgements, as the method reads.
        prompts: what a method that samples draws from.
        reward: a judge that scores, for methods that need one; others are watched by it as they train.
        feedback: what says in words what is wrong with a response, for methods that learn from it: ``gold``, a model,
            or ``python/FILE.py:function``.
        development: prompts for choosing settings or checkpoints, scored by ``judge``.
        template: a file with a chat template to use in place of the model's own.
        rule: how judgements become preferences; the default drops ties.
        budget: column of the ledger -> amount: training ends with the first step that reaches one of them.
        report, mirror: receive each line of metrics: a progress bar, trackers (:func:`pippin.align.trackers.mirror`).

    Raises:
        UnknownName, InputError: as :class:`Settings`, or the inputs do not fit the method.
        Diverged: training left the numbers.
    """
    distributed.start()
    method: Method = catalog.load("methods", name)
    chosen = Settings.of(name, method, settings)
    policy = with_template(load_policy(model), template)
    judging = resolve(reward, seed=chosen.training.seed) if reward else None
    gold = resolve(judge, seed=chosen.training.seed) if judge else None
    context = sources.Context(
        policy=policy,
        config=chosen.own,
        training=chosen.training,
        seed=chosen.training.seed,
        data=data,
        prompts=prompts,
        development=development,
        scorer=scorer(judging) if judging else None,
        evaluate=scorer(gold) if gold else None,
        compare=interventions.only_scores(comparer(judging) if judging else None, "comparisons", chosen.training),
        segments=interventions.only_scores(segments(judging) if judging else None, "segments", chosen.training),
        feedback=feedback_of(feedback, chosen.training.seed) if feedback else None,
        budget=_budget(budget or {}),
    )
    _require(method, name, context)
    interventions.fits(name, method, chosen.own, chosen.training)
    rule = Rule() if rule is None else rule
    if method.reads == "preferences":
        context.preferences = [collapse(g.judgements, g.responses, rule).preferences for g in data]
    counts = interventions.on_preferences(context)
    manifest = {
        "method": name,
        "model": model,
        **digests(policy, data, prompts, development),
        "masking": _masking(chosen.own),
        "collapse": canonical(dataclasses.asdict(rule)) if method.reads == "preferences" else None,
        **({"preferences": canonical(counts)} if counts else {}),
        "reward": reward,
        "judge.dev": judge,
        **({"feedback": feedback} if feedback else {}),
        **({"budget": canonical(dict(context.budget))} if budget else {}),
        **chosen.flat(name),
        **{f"library.{k}": v for k, v in environment().items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.claim(out, manifest | ({"reward.config": judging.info.config} if judging else {}))
    if mirror is not None and distributed.leads():
        mirror.begin(manifest)
        report = mirror.beside(report)
    started = time.monotonic()
    metrics: Json = {}
    watched: Json = {}
    watching = bool(chosen.training.watch_prompts) and distributed.leads()
    if method.choose is not None:
        choose = method.choose
        context.state |= distributed.from_first(lambda: choose(context, chosen.own))
        context.ledger.add(wall_clock=time.monotonic() - started)
        nets = networks.Networks(policy)
    else:
        dear = frozenset(n for n, j in (("proxy", judging), ("gold", gold)) if j and looking.asks_models(j))
        nets, metrics, watched = _train(method, context, chosen, model, reward, out, report, dear)
    context.ledger.add(peak_memory=peak_memory())
    recipe = dict(method.decoding(chosen.own, context.state))
    context.ledger.inference_multiplier = recipe.get("n", 1)
    if recipe and method.artefact == "policy":
        chosen_by = {"reranker": reward or ""} if "n" in recipe else {}
        policy.decoding = dataclasses.replace(policy.decoding, **chosen_by, **recipe)
    state = {k: v for k, v in context.state.items() if k not in ("bag", "pool")}  # samples, for resuming only
    made: Policy | RewardModel = policy
    if distributed.leads() and method.artefact == "reward":
        made, scores = _reward(nets, chosen.own, context, data, model)
        watched = looking.reward_model(context, scores) if watching else {}
    elif watching and method.choose is not None:
        watched = looking.chosen(context, method, recipe.get("n", 1))
    run = Run(out, manifest, context.ledger, state, metrics, watched)
    if distributed.leads():
        made.save(out)
        _close(run)
    distributed.wait()  # what comes next may read the folder
    return run


def _budget(budget: Mapping[str, float]) -> dict[str, float]:
    """What training can end by: amounts that grow with every step.

    Raises:
        UnknownName: another column.
    """
    for column in budget:
        if column not in COUNTED:
            raise UnknownName("column that training can end by", column, COUNTED)
    return {column: float(amount) for column, amount in budget.items()}


def _close(run: Run) -> None:
    """The run is whole: its papers are written, and what is for resuming goes."""
    papers = {"manifest": run.manifest, "ledger": run.ledger.to_row(), "state": run.state, "metrics": run.metrics}
    write_json(run.folder / FILE, papers | ({"watch": run.watch} if run.watch else {}))
    write_card(run.folder)
    checkpoint.clear(run.folder)


def _masking(own: Any) -> str:
    """Which tokens are trained on, under a method's own settings."""
    if getattr(own, "train_on_prompt", False):
        return "prompt and response"
    return "every assistant turn" if getattr(own, "assistant_only_loss", False) else "response only"


def digests(
    policy: Policy, data: Sequence[Group], prompts: Sequence[Prompt], development: Sequence[Prompt]
) -> dict[str, str | None]:
    """What of a manifest is read off the inputs themselves, whatever they are called."""
    return {
        "base.weights": policy.weights_digest,
        "base.tokenizer": policy.chat.tokenizer_hash,
        "base.template": policy.chat.template_hash,
        "data": data_digest([to_row(g) for g in data]) if data else None,
        "prompts.train": data_digest([p.id for p in prompts]) if prompts else None,
        "prompts.dev": data_digest([p.id for p in development]) if development else None,
    }


def finished(folder: Path) -> Run:
    """The finished run in a folder, from its papers."""
    p = load_run(folder)
    return Run(folder, p["manifest"], Ledger(**p["ledger"]), p["state"], p["metrics"], p.get("watch", {}))


def load_run(folder: Path) -> Json:
    """What ``pippin_run.json`` of a run's folder says."""
    return json.loads((folder / FILE).read_text())


def _train(
    method: Method,
    context: sources.Context,
    chosen: Settings,
    model: str,
    reward: str | None,
    out: Path,
    report: Callable[[Mapping[str, float]], None] | None,
    dear: frozenset[str],
) -> tuple[networks.Networks, Json, Json]:
    parts = method.parts(chosen.own)
    start = load_reward(reward[3:]) if "critic" in parts and reward and reward.startswith("rm/") else None
    if start is not None and start.chat.tokenizer.get_vocab() != context.policy.chat.tokenizer.get_vocab():
        context.state["critic_from"] = "the policy: the reward model has another tokenizer"
        start = None
    tokens = method.tokens(chosen.own)
    if chosen.training.use_peft and tokens:
        raise InputError("an adapter trains no new tokens", where="use_peft", found=tokens, mend="Train all weights")
    context.control = context.policy.add_tokens(tokens, context.seed)
    if chosen.training.use_peft:
        adapters.attach(context.policy, chosen.training, model)
    nets = networks.build(
        context.policy,
        parts,
        reward=start,
        kind=getattr(chosen.own, "head", "last"),
        seed=context.seed,
        control=tuple(context.control.values()),
        recompute=chosen.training.gradient_checkpointing,
    )
    context.reference = nets.reference
    lines: list[Json] = []
    watch = None
    if distributed.leads():
        lines = _forget_after_checkpoint(out, chosen.training.save_steps > 0)
        if chosen.training.watch_prompts and method.artefact == "policy":
            watch = looking.Watch(context, method, looking.first_policy(nets), out, dear)
    told = out / "metrics.jsonl" if distributed.leads() else Path(os.devnull)
    with told.open("a", encoding="utf-8") as file:

        def log(line: Mapping[str, float]) -> None:
            lines.append({k: _rounded(v) for k, v in line.items()})
            file.write(json.dumps(lines[-1]) + "\n")
            file.flush()
            if report is not None and distributed.leads():
                report(line)

        progress = loop.train(
            method,
            context,
            nets,
            folder=out if chosen.training.save_steps else None,
            log=log,
            evaluate=(lambda: develop(context, method)) if context.evaluate else None,
            observe=watch.observe if watch else None,
        )
    watched: Json = {}
    if watch is not None:
        context.ledger.wall_clock -= watch.seconds  # what watching costs is not training
        put_back = chosen.training.load_best_model_at_end and progress.best_round not in (None, progress.round)
        watched = watch.finish(progress.step, "best round" if put_back else "")
    closing = dict(lines[-1]) if lines else {}
    first = dict(lines[0]) if lines else {}
    chosen_round = (
        {} if progress.best_round is None else {"best_round": progress.best_round, "best_score": progress.best_score}
    )
    return nets, {"first": first, "last": closing, **chosen_round}, watched


def _rounded(value: float) -> float | None:
    """Eight digits; None for what is no number, which JSON cannot say."""
    return None if not math.isfinite(value) else value if isinstance(value, int) else float(f"{value:.8g}")


def _forget_after_checkpoint(out: Path, resumes: bool) -> list[Json]:
    """Keep the lines of metrics and looks up to the checkpoint that the run goes on from; none where it starts anew.
    The lines of metrics that are kept. A line that was cut while it was written has no end."""
    step, logged = checkpoint.position(out) if resumes else (-1, 0)
    kept: dict[str, list[str]] = {}
    for name in ("metrics.jsonl", looking.FILE):
        if (out / name).is_file():
            lines = [line for line in (out / name).read_text().splitlines(keepends=True) if line.endswith("\n")]
            seen = [line for line in lines if json.loads(line)["step"] <= step]
            kept[name] = lines[:logged] if name == "metrics.jsonl" else seen
            (out / name).write_text("".join(kept[name]))
    return [json.loads(line) for line in kept.get("metrics.jsonl", [])]


def develop(context: sources.Context, method: Method | None = None) -> float:
    """Mean development score of one draw a prompt from the current policy at temperature 1, after the control prefix
    that the method's recipe has."""
    chat = context.policy.chat
    recipe = {} if method is None else method.decoding(context.config, context.state)
    prefix = recipe.get("prefix", "")
    groups = [sources.LoopGroup(p, chat.prompt_ids(p.messages, prefix)) for p in context.development]
    groups = sources.fitting(context, groups)
    counted, context.ledger = context.ledger, Ledger()  # what choosing costs is not training
    limit = getattr(context.config, "max_completion_length", DEVELOP_TOKENS)
    groups = sources.sample(context, groups, 1, limit, purpose="develop")
    context.ledger = counted
    assert context.evaluate is not None
    return float(np.mean(context.evaluate([g.prompt for g in groups], [g.texts[0] for g in groups])))


def with_template(policy: Policy, template: str | None) -> Policy:
    """The policy with the chat template of a file in place of its own.

    Raises:
        InputError: there is no such file.
    """
    if template:
        place = Path(template).expanduser()
        if not place.is_file():
            raise InputError("no such chat template", where=template, expected="a Jinja file")
        policy.chat = Chat(policy.chat.tokenizer, place.read_text(encoding="utf-8"))
    return policy


def _require(method: Method, name: str, context: sources.Context) -> None:
    if method.reads in ("demonstrations", "preferences") and not context.data:
        raise InputError(f"{name} reads {method.reads}, and there are none", mend="Give --data FILE")
    if method.reads == "preferences" and not any(g.judgements for g in context.data):
        raise InputError(
            f"{name} reads preferences, and no row has a judgement",
            mend="Give rows with prompt, chosen and rejected, or label the responses first: pippin judge",
        )
    wanted = method.wants(context.config)
    if "prompts" in wanted and not (context.prompts or method.choose):
        raise InputError(f"{name} samples, and there are no prompts", mend="Give --prompts FILE")
    if "reward" in wanted and context.scorer is None:
        raise InputError(f"{name} needs a reward", mend="Give --reward rm/PATH or another judge that scores")
    if "feedback" in wanted and context.feedback is None:
        raise InputError(f"{name} learns from feedback in words, and none is given", mend=FEEDBACK)
    if "data" in wanted and not context.data:
        raise InputError(f"{name} needs data under these settings", mend="Give --data FILE")


def _reward(
    nets: networks.Networks, own: Any, context: sources.Context, data: Sequence[Group], model: str
) -> tuple[RewardModel, list[float]]:
    """The trained reward model, its gauge fixed at mean 0 and deviation 1 over (at most 512) training responses, and
    their scores before that."""
    raw = RewardModel(own.head, context.policy, head=nets.head, reference=nets.reference, beta=own.beta)
    rows = [(g.prompt.messages, r.text) for g in data for r in g.responses][:512]
    scores = raw.raw([p for p, _ in rows], [t for _, t in rows])
    values = np.array(scores)
    raw.gauge = Gauge(float(values.mean()), float(values.std()) or 1.0, len(values), data[0].responses[0].by or model)
    return raw, scores
