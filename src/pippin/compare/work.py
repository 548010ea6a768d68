"""One cell's work: from its specification to its result, with what earlier cells left in the store."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pippin.align.run import COUNTED, align, scorer, with_template
from pippin.compare import inputs, manifests
from pippin.compare.cells import CELL, Cell
from pippin.compare.imported import import_answers
from pippin.compare.spec import judge_scores
from pippin.core.errors import Diverged, InputError
from pippin.core.run import Ledger, write_json
from pippin.core.store import Store
from pippin.core.types import Choice, Group, Prompt, Response, Sampling
from pippin.data import files
from pippin.feedback.collapse import collapse
from pippin.judge.ask import ORDERS, Pair
from pippin.judge.resolve import resolve
from pippin.lm.forward import pad, token_kl
from pippin.lm.hf import load_policy
from pippin.lm.policy import Policy
from pippin.stats import best_of_n_kl

Json = dict[str, Any]
RESULT = "cell.json"
LEAVE_FILES = ("train", "feedback", "respond", "import")
Report = Callable[[Mapping[str, float]], None]


def run_cell(cell: Cell, store: Store, report: Report | None = None) -> Json:
    """Do a cell's work unless the store has it; the result, which is stored before it is returned."""
    done = store.cell(cell.key)
    if done is not None:
        return done["result"]
    behind = [made["result"] for made in map(store.cell, cell.needs) if made is not None]
    lost = next((result["diverged"] for result in behind if "diverged" in result), None)
    made = store.artifact(cell.key)
    if lost is not None:  # nothing can be done with a policy that is not there
        result = {"diverged": lost}
    elif made is not None:  # killed between the folder and the row
        result = json.loads((made / RESULT).read_text())
    elif cell.kind in LEAVE_FILES:
        try:
            with store.writing(cell.key) as folder:
                result = WORK[cell.kind](_paths(cell.spec, store), store, folder, report)
                write_json(folder / RESULT, result)
        except Diverged as error:  # an outcome of the study, and what the method did with these settings
            result = {"diverged": str(error)}
    else:
        result = WORK[cell.kind](_paths(cell.spec, store), store, None, report)
    store.add_cell(cell.key, {"kind": cell.kind, "label": cell.label, **cell.spec}, result)
    return result


def _paths(spec: Any, store: Store) -> Any:
    """``cell:KEY`` replaced by the folder of that cell's artifact."""
    if isinstance(spec, str):

        def folder(found: re.Match[str]) -> str:
            place = store.artifact(found[1])
            if place is None:
                raise InputError("a finished cell's files are gone", found=found[1], mend="Run: pippin store clean")
            return str(place)

        return CELL.sub(folder, spec)
    if isinstance(spec, Mapping):
        return {k: _paths(v, store) for k, v in spec.items()}
    return spec


def train(spec: Json, store: Store, folder: Path, report: Report | None) -> Json:
    """Run a method; the artifact is its model folder."""
    seed = spec["seed"]
    data = _groups(spec["data"], seed) if spec["data"] else []
    labels = spec["match"].get("labels")
    if labels is not None and any(g.judgements for g in data):
        data = _first_labels(data, int(labels))
    prompts = inputs.read_prompts(spec["prompts"], seed) if spec["prompts"] else []
    settings = {"save_steps": 0, **spec["settings"], "seed": seed}  # a cell is whole or not there
    budget = {column: amount for column, amount in spec["match"].items() if column in COUNTED}
    if "steps" in budget and not 0 <= int(settings.get("max_steps", -1)) <= budget["steps"]:
        settings["max_steps"] = int(budget["steps"])  # the schedule ends where training ends
    run = align(
        spec["method"],
        settings,
        model=spec["model"],
        template=spec["template"],
        data=data,
        prompts=prompts,
        reward=spec["reward"],
        development=inputs.read_prompts(spec["dev"], seed) if spec["dev"] else (),
        judge=spec["judge"],
        feedback=spec.get("feedback"),
        budget=budget,
        out=folder,
        report=report,
    )
    papers = {"ledger": run.ledger.to_row(), "state": run.state, "metrics": run.metrics, "watch": run.watch}
    return papers | {"manifest": run.manifest | manifests.of_inputs(data, prompts, spec)}


def feedback(spec: Json, store: Store, folder: Path, report: Report | None) -> Json:
    """Draw responses and have them compared, all pairs of a prompt; the artifact holds the groups."""
    policy = _loaded(spec["policy"], store)
    prompts = inputs.read_prompts(spec["prompts"], spec["seed"])
    n = spec["n"]
    sampling = Sampling(spec["temperature"], 1.0, spec["max_tokens"], spec["seed"])
    drawn = policy.respond(prompts, n=n, sampling=sampling, purpose="feedback")
    judge = resolve(spec["judge"], seed=spec["seed"])
    groups = [(p, drawn[k * n : (k + 1) * n]) for k, p in enumerate(prompts)]
    pairs = [Pair(p, a, b) for p, rs in groups for i, a in enumerate(rs) for b in rs[i + 1 :] if a.text != b.text]
    orders = ORDERS if spec["orders"] == "both" else ORDERS[:1]
    said: dict[str, list[Any]] = {}
    for choice in judge.compare(pairs, orders=orders):
        said.setdefault(choice.prompt_id, []).append(choice)
    files.write_groups(folder / "groups.jsonl", (Group(p, tuple(rs), tuple(said.get(p.id, ()))) for p, rs in groups))
    tokens = sum(_length(policy, p, r) for p, rs in groups for r in rs)
    ledger = Ledger()
    ledger.add(policy_tokens_sampled=tokens)  # prompts and labels count where they are trained on
    return {"ledger": ledger.to_row(), "prompts": len(prompts), "pairs": len(pairs), "judge": judge.info.name}


def respond(spec: Json, store: Store, folder: Path, report: Report | None) -> Json:
    """A policy answers prompts; the artifact holds the responses."""
    policy = with_template(_loaded(spec["policy"], store), spec["template"])
    prompts = inputs.read_prompts(spec["prompts"], 0)
    sampling = Sampling(spec["temperature"], spec.get("top_p", 1.0), spec["max_tokens"], spec["seed"])
    before = Path(spec["before"]) / "responses.jsonl" if "before" in spec else None  # of fewer prompts, the same way
    said = [replace(r, sampling=sampling) for _, r in files.read_responses(before)] if before else []
    there = {response.prompt_id for response in said}
    left = [p for p in prompts if p.id not in there]
    said += policy.respond(left, n=spec["n"], sampling=sampling, rerank=reranker(policy), purpose="evaluate")
    by_id = {p.id: p for p in prompts}
    files.write_responses(folder / "responses.jsonl", ((by_id[r.prompt_id], r) for r in said))
    lengths = [_length(policy, by_id[r.prompt_id], r) for r in said]
    return {
        "mean_length": float(np.mean(lengths)),
        "share_without_end": float(np.mean([r.stop != "end" for r in said])),
        "lengths": _by_prompt([r.prompt_id for r in said], lengths),
        "manifest": manifests.of_answers(policy, prompts),
    }


def _loaded(name: str, store: Store) -> Policy:
    """A policy; one that a cell made answers under the cell's name, so that answers do not tell where a store lies."""
    policy, place = load_policy(name), Path(name)
    if place.parent == store.artifacts.root:
        policy.name = f"cell:{place.name}"
    return policy


def judge(spec: Json, store: Store, folder: Path | None, report: Report | None) -> Json:
    """Scores of responses, or their credit against another set of responses to the same prompts in both orders."""
    rows = files.read_responses(Path(spec["responses"]) / "responses.jsonl")
    judging = resolve(spec["judge"])
    papers = Path(spec["responses"]) / RESULT
    missing = json.loads(papers.read_text()).get("missing", ()) if papers.is_file() else ()
    unanswered: dict[str, list[float | None]] = {prompt: [None] for prompt in missing}  # of answers made elsewhere
    if judge_scores(spec["judge"]):
        scores = [s.value for s in judging.score(rows)]
        noted = manifests.of_verdicts(judging, (), store)
        values = _by_prompt([p.id for p, _ in rows], scores) | unanswered
        return {"values": values, "judge": judging.info.name, "manifest": noted}
    pairs = pairs_against(rows, files.read_responses(Path(spec["against"]) / "responses.jsonl"))
    choices = judging.compare(pairs, store=store)
    per = len(choices) // max(1, len(pairs))
    values: dict[str, list[float | None]] = {}
    for k, pair in enumerate(pairs):
        credits = [
            c.credit(pair.first.id) if pair.first.id != pair.second.id else 0.5
            for c in choices[k * per : (k + 1) * per]
        ]
        values.setdefault(pair.prompt.id, []).extend(credits)
    noted = manifests.of_verdicts(judging, choices, store)
    return {"values": values | unanswered, "judge": judging.info.name, "manifest": noted}


def pairs_against(rows: Sequence[tuple[Prompt, Response]], others: Iterable[tuple[Prompt, Response]]) -> list[Pair]:
    """Every response with one of the others' to the same prompt, draw by draw; prompts that both answered."""
    theirs: dict[str, list[Response]] = {}
    for prompt, response in others:
        theirs.setdefault(prompt.id, []).append(response)
    known = [(p, r, theirs[p.id]) for p, r in _numbered(rows) if p.id in theirs]
    return [Pair(p, r, many[r.sample % len(many)]) for p, r, many in known]


def kl(spec: Json, store: Store, folder: Path | None, report: Report | None) -> Json:
    """KL of a policy from a reference over its own temperature-1 responses: exact at every prefix, summed; nats.

    Best-of-n has no distribution of its own at hand: the bound log n - (n-1)/n takes its place.
    """
    policy = load_policy(spec["policy"])
    rows = files.read_responses(Path(spec["responses"]) / "responses.jsonl")
    if policy.decoding.n > 1:
        n = policy.decoding.n
        return {"values": {rows[0][0].id: [best_of_n_kl(n)]}, "kind": "upper bound: log n - (n-1)/n", "n": n}
    reference = load_policy(spec["reference"])
    added = _added_tokens(policy, reference)
    if added is None:
        raise InputError("KL needs one vocabulary", found="two tokenizers", where=spec["policy"])
    without = tuple({*added, *policy.banned_ids})
    rows = [(p, r) for p, r in rows if r.text or r.stop == "end"]  # a response without a token has no KL
    values: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(rows), 64):
            ids, attention, mask = _laid_out(policy, rows[start : start + 64])
            theirs = _laid_out(reference, rows[start : start + 64])
            kl_N_T = token_kl(
                policy.model, reference.model, ids, attention, mask, without=without,
                ids_b_N_T=theirs[0], attention_b_N_T=theirs[1], mask_b_N_T=theirs[2],
            )  # fmt: skip
            values += kl_N_T.sum(-1).tolist()
    return {"values": _by_prompt([p.id for p, _ in rows], values), "kind": "exact"}


def _laid_out(policy: Policy, rows: Sequence[tuple[Prompt, Response]]) -> list[torch.Tensor]:
    """Ids, attention and response mask ``[N, T]`` of responses as this policy gives them: after its own prefix."""
    prefix = policy.decoding.prefix
    encoded = [policy.chat.example(p.messages, r.text, ended=r.stop == "end", prefix=prefix) for p, r in rows]
    ids, attention = pad([e[0] for e in encoded], policy.chat.pad_id)
    return [ids, attention, pad([e[1] for e in encoded], 0)[0].bool()]


def _added_tokens(policy: Policy, reference: Policy) -> list[int] | None:
    """Tokens that the policy has and the reference has not; None where the others are not the reference's."""
    mine, theirs = policy.chat.tokenizer.get_vocab(), reference.chat.tokenizer.get_vocab()
    if any(mine.get(token) != place for token, place in theirs.items()):
        return None
    return sorted(place for token, place in mine.items() if token not in theirs)


def check(spec: Json, store: Store, folder: Path | None, report: Report | None) -> Json:
    """How often a judge and the study's judge prefer the same of two draws of a policy, on pairs that neither ties."""
    groups, proxy, gold = _drawn(spec, spec["judge"], "check")
    right, untied = {}, {}
    for prompt, p, g in zip(groups, proxy, gold, strict=True):
        pairs = [(p[i] - p[j], g[i] - g[j]) for i in range(len(p)) for j in range(i)]
        decided = [(a, b) for a, b in pairs if b != 0]
        untied[prompt.id] = len(decided)
        right[prompt.id] = sum(0.5 if a == 0 else float((a > 0) == (b > 0)) for a, b in decided)
    return {"right": right, "untied": untied}


def curve(spec: Json, store: Store, folder: Path | None, report: Report | None) -> Json:
    """Proxy and gold of ``n`` draws for each prompt: what best-of-n curves are estimated from."""
    groups, proxy, gold = _drawn(spec, spec["reward"], "curve")
    return {"prompts": [p.id for p in groups], "proxy": proxy, "gold": gold}


def _drawn(spec: Json, judge: str, purpose: str) -> tuple[list[Prompt], list[list[float]], list[list[float]]]:
    policy = load_policy(spec["policy"])
    prompts = inputs.read_prompts(spec["prompts"], spec["seed"])[: spec["limit"]]
    n = int(spec["n"])
    said = policy.respond(prompts, n=n, sampling=Sampling(1.0, 1.0, spec["max_tokens"], spec["seed"]), purpose=purpose)
    asked = [p for p in prompts for _ in range(n)]
    texts = [r.text for r in said]
    proxy, gold = scorer(judge)(asked, texts), scorer(spec["against"])(asked, texts)
    rows = range(0, len(texts), n)
    return prompts, [list(proxy[i : i + n]) for i in rows], [list(gold[i : i + n]) for i in rows]


def reranker(policy: Policy):
    """The scorer of a best-of-n recipe as ``respond`` takes it; None where the recipe has none."""
    if policy.decoding.n <= 1 or not policy.decoding.reranker:
        return None
    score = scorer(policy.decoding.reranker)

    def rerank(prompts: Sequence[Prompt], texts: list[list[str]]) -> list[list[float]]:
        flat = list(
            score([p for p, ts in zip(prompts, texts, strict=True) for _ in ts], [t for ts in texts for t in ts])
        )
        out = []
        for ts in texts:
            out.append(flat[: len(ts)])
            del flat[: len(ts)]
        return out

    return rerank


def _groups(data: str, seed: int) -> list[Group]:
    folder = Path(data)
    if (folder / "groups.jsonl").is_file():
        return list(files.read_groups(folder / "groups.jsonl"))
    return inputs.read_groups(data, seed)


def _first_labels(data: list[Group], labels: int) -> list[Group]:
    """The first groups whose labels add up to ``labels``; the last one is cut. Both orders of a pair are one label, as
    training counts them."""
    out: list[Group] = []
    for group in data:
        if labels <= 0:
            break
        about: dict[Any, list[Any]] = {}
        for judgement in group.judgements:
            pair = frozenset((judgement.first, judgement.second)) if isinstance(judgement, Choice) else judgement
            about.setdefault(pair, []).append(judgement)
        kept: list[Any] = []
        for said in about.values():
            if labels > 0:
                kept += said
                labels -= len(collapse(said, group.responses).preferences) if isinstance(said[0], Choice) else 1
        out.append(Group(group.prompt, group.responses, tuple(kept)))
    return out


def _length(policy: Policy, prompt: Prompt, response: Response) -> int:
    """Tokens of a response, its end token counted."""
    if not response.text and response.stop != "end":
        return 0
    return sum(policy.chat.example(prompt.messages, response.text, ended=response.stop == "end")[1])


def _by_prompt(ids: Sequence[str], values: Sequence[Any]) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    for prompt_id, value in zip(ids, values, strict=True):
        out.setdefault(prompt_id, []).append(value)
    return out


def _numbered(rows: Sequence[tuple[Prompt, Response]]) -> list[tuple[Prompt, Response]]:
    return sorted(rows, key=lambda row: row[1].sample)


WORK: dict[str, Callable[..., Json]] = {
    "train": train,
    "feedback": feedback,
    "respond": respond,
    "import": import_answers,
    "judge": judge,
    "kl": kl,
    "check": check,
    "curve": curve,
}
