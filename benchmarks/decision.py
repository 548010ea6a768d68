"""What a decision costs: labels and judge calls until it is settled which of two is better, on recorded judgements.

Each case is a pair of systems, a judge, and people whose votes the judge's are held against. A run draws a pool of
prompts with replacement from the recorded ones, each with the judge's recorded verdicts and one recorded vote; so the
truth is known: the mean of all votes.

fixed n     labels drawn evenly, as many as give 80 % power at 5 % error: told the true difference, which nobody knows
told        `pippin compare --sequential`, its budget chosen from that same knowledge, for about 80 % power
untold      the same, with all of the pool as the budget
judge alone all of the pool judged, no label

Under the null prompts are drawn with weights that make people's mean zero while the judge keeps its faults.

    PIPPIN_SHARED=../shared python benchmarks/decision.py [--runs 200] [--pool 1000] [--sources prd] [--judges gpt-4]
"""

from __future__ import annotations

import argparse
import collections
import csv
import gzip
import itertools
import math
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import optimize
from scipy import stats as distributions

from pippin import stats
from pippin.stats import decisions

WORTH = 0.05
LARGEST = 0.1  # what a fixed number of labels would be planned for by someone who is told nothing
SLACK = 1.2  # the labels of a fixed n that five looks or so need for the same power
NULL = 400  # labels at most under the null, where nothing stops a run early
DATA = Path(os.environ.get("PIPPIN_SHARED", "../shared")) / "data"


Words = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Case:
    """Recorded verdicts: the judge's difference of each prompt (mean of its orders), and people's votes on it."""

    name: str
    judge: str
    judge_Q: np.ndarray
    votes_Q: list[list[float]]

    @property
    def truth(self) -> float:
        return float(np.mean([np.mean(votes) for votes in self.votes_Q]))

    @property
    def deviation(self) -> float:
        """Of one vote on a prompt drawn from the recorded ones."""
        square = float(np.mean([np.mean(np.square(votes)) for votes in self.votes_Q]))
        return math.sqrt(square - self.truth**2)

    @property
    def correlation(self) -> float:
        """Between the judge's difference and one vote."""
        mean_Q = np.array([np.mean(votes) for votes in self.votes_Q])
        apart_Q = self.judge_Q - self.judge_Q.mean()
        spread = float(self.judge_Q.std()) * self.deviation
        return float(np.mean(apart_Q * (mean_Q - self.truth))) / spread if spread else 0.0

    @property
    def agreement(self) -> float:
        """Intraclass correlation of votes on one prompt, which no judge's correlation squared can exceed."""
        votes_Q_V = np.array(self.votes_Q) if len({len(votes) for votes in self.votes_Q}) == 1 else np.empty((0, 1))
        votes = votes_Q_V.shape[1]
        if votes < 2:
            return math.nan
        within = float(votes_Q_V.var(axis=1, ddof=1).mean())
        between = votes * float(votes_Q_V.mean(axis=1).var(ddof=1))
        return max(0.0, (between - within) / (between + (votes - 1) * within))

    @property
    def fixed(self) -> int:
        return stats.sample_size(self.truth, self.deviation)

    def null(self) -> np.ndarray:
        """Weights of the prompts under which people find no difference: exponential in the mean vote."""
        mean_Q = np.array([np.mean(votes) for votes in self.votes_Q])

        def tilted(power: float) -> np.ndarray:
            weight_Q = np.exp(power * (mean_Q - mean_Q.mean()))
            return weight_Q / weight_Q.sum()

        power = optimize.brentq(lambda power: tilted(power) @ mean_Q, -30, 30)
        return tilted(float(power))  # type: ignore[arg-type] - without full output it is a number

    def pool(self, rng: np.random.Generator, size: int, weight_Q: np.ndarray | None = None) -> Words:
        """The judge's and one person's word on ``size`` prompts."""
        drawn = rng.choice(len(self.judge_Q), size, p=weight_Q)
        return self.judge_Q[drawn], np.array([self.votes_Q[q][rng.integers(len(self.votes_Q[q]))] for q in drawn])


@dataclass(frozen=True)
class Cost:
    """What one run came to. ``held``: the intervals of all its looks hold the truth."""

    decision: str
    labels: int
    calls: int
    held: bool
    low: float
    high: float


def run(
    judge_N: np.ndarray, votes_N: np.ndarray, truth: float, budget: int, rng: np.random.Generator, even: bool
) -> Cost:
    """One decision, as ``pippin compare --sequential`` takes it."""
    counts = decisions.waves(min(budget, len(judge_N)))
    people_N, had_N, pairs, held = np.full(len(judge_N), np.nan), np.zeros(len(judge_N)), 0, True
    for count, level in zip(counts, decisions.levels(counts), strict=True):
        pairs = min(len(judge_N), decisions.JUDGED * count)
        word, said, had = judge_N[:pairs], people_N[:pairs], had_N[:pairs]
        n = count - int((~np.isnan(said)).sum())
        if even:
            chance = decisions.chances(np.ones(pairs), had, ~np.isnan(said), n)
            drawn, after = (
                decisions.draw(chance, ~np.isnan(said), rng.random(pairs), rng.random()),
                had + (1 - had) * chance,
            )
        else:
            drawn, after = decisions.wave(word, said, had, n, rng.random(pairs), rng.random())
        had_N[:pairs], people_N[drawn] = after, votes_N[drawn]
        found = stats.corrected(
            word, people_N[:pairs], probability_N=had_N[:pairs], support=(-1, 1), level=level
        ).corrected  # fmt: skip
        held &= found.low <= truth <= found.high
        decision = decisions.verdict(found.low, found.high, WORTH)
        if decision != "cannot tell":
            break
    return Cost(decision, count, 2 * pairs, held, found.low, found.high)


def prd(judges: list[str]) -> Iterator[Case]:
    """Vicuna-80 answers of pairs of models, three people (or one) and each judge's verdicts in both orders."""
    value = {"A": 1.0, "B": -1.0, "tie": 0.0}
    votes: dict[tuple[str, ...], dict[str, list[float]]] = {}
    said: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for row in _rows(DATA / "prd" / "votes.csv.gz"):
        pair = tuple(sorted((row["model_a"], row["model_b"])))
        of_second = value[row["vote"]] * (1 if row["model_a"] == pair[1] else -1)
        where = votes.setdefault(pair, {}) if row["judge"] == "human" else said.setdefault((row["judge"], *pair), {})
        where.setdefault(row["question_id"], []).append(of_second)
    for judge, pair in itertools.product(judges, sorted(votes)):
        known = said.get((judge, *pair), {})
        ids = [question for question in votes[pair] if len(known.get(question, ())) == 2]
        if ids:
            yield _turned(f"PRD: {pair[0]}, {pair[1]}", judge, [np.mean(known[q]) for q in ids],
                          [votes[pair][q] for q in ids])  # fmt: skip


def alpaca_eval() -> Iterator[Case]:
    """Differences of two models' preferences over one baseline, by one judge and by a second one as the people."""
    weighted, others = collections.defaultdict(dict), collections.defaultdict(dict)
    for row in _rows(DATA / "alpaca_eval" / "judgments.csv.gz"):
        weighted[row["model"]][row["index"]] = row["preference"]
    for row in _rows(DATA / "alpaca_eval" / "cross_judge.csv.gz"):
        others[row["judge"], row["model"]][row["index"]] = row["preference"]
    people = {model: said for (judge, model), said in others.items() if judge == "alpaca_eval_cot_gpt4_turbo_fn"}
    plain = {model: said for (judge, model), said in others.items() if judge == "alpaca_eval_gpt4_turbo_fn"}
    for name, judged in (("gpt4_turbo_fn", plain), ("weighted_gpt4_turbo", weighted)):
        same = {model for model in people if people[model] == judged.get(model)}  # one file under two names
        for one, two in itertools.combinations(sorted(set(people) & set(judged) - same), 2):
            sides = (people[one], people[two], judged[one], judged[two])
            ids = [i for i in people[one] if all(_known(side.get(i)) for side in sides)]
            people_Q, judge_Q = (
                [_preference(b[i]) - _preference(a[i]) for i in ids] for a, b in (sides[:2], sides[2:])
            )
            yield _turned(f"AlpacaEval: {one}, {two}", name, judge_Q, [[vote] for vote in people_Q])


def _turned(name: str, judge: str, judge_Q: list, votes_Q: list[list[float]]) -> Case:
    """With the better system second."""
    sign = 1 if np.mean([np.mean(votes) for votes in votes_Q]) >= 0 else -1
    return Case(name, judge, sign * np.array(judge_Q), [[sign * vote for vote in votes] for votes in votes_Q])


def _known(preference: str | None) -> bool:
    return bool(preference) and math.isfinite(float(preference))


def _preference(cell: str) -> float:
    """Half the model's lead over the baseline, -1/2 to 1/2: the difference of two such lies between -1 and 1."""
    value = float(cell)
    return 0.0 if value == 0 else value - 1.5


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def measure(case: Case, runs: int, size: int, even: bool) -> dict[str, float]:
    """All figures of one case."""
    truth, n, rho = case.truth, case.fixed if case.truth >= WORTH else 0, case.correlation
    told = max(12, math.ceil(SLACK * n * (1 - rho**2 * (1 - 1 / decisions.JUDGED))))
    weight_Q = case.null()
    made: dict[str, list[Cost]] = collections.defaultdict(list)
    alone = collections.Counter()
    right = 0.0
    for seed in range(runs):
        rng = np.random.default_rng([seed, 1])
        pool = case.pool(rng, size)
        if 0 < n <= size:
            made["told"].append(run(*pool, truth, told, rng, False))
            votes_n = pool[1][:n]
            bound = distributions.t.ppf(0.975, n - 1) * votes_n.std(ddof=1) / math.sqrt(n)
            right += float(votes_n.mean() > bound) / runs
        made["untold"].append(run(*pool, truth, size, rng, False))
        if even:
            made["even"].append(run(*pool, truth, size, rng, True))
        made["null"].append(run(*case.pool(rng, size, weight_Q), 0.0, min(size, NULL), rng, False))
        for kind, weight, goal in (("", None, truth), ("null ", weight_Q, 0.0)):
            word = case.pool(rng, size, weight)[0]
            half = 1.96 * word.std(ddof=1) / math.sqrt(size)
            alone[kind + "better"] += word.mean() - half > 0
            alone[kind + "worse"] += word.mean() + half < 0
            alone[kind + "held"] += abs(word.mean() - goal) <= half
    found = {"truth": truth, "rho": rho, "fixed": n, "power fixed": right}
    for kind, costs in made.items():
        found |= {
            f"labels {kind}": statistics.mean(c.labels for c in costs),
            f"calls {kind}": statistics.mean(c.calls for c in costs),
            f"better {kind}": statistics.mean(c.decision == "better" for c in costs),
            f"not better {kind}": statistics.mean(c.decision == "not better" for c in costs),
            f"held {kind}": statistics.mean(c.held for c in costs),
        }  # fmt: skip
    return found | {f"alone {key}": alone[key] / runs for key in (
        "better", "worse", "held", "null better", "null worse", "null held")}  # fmt: skip


COLUMNS = (
    "pair, V2 the better", "judge", "truth", "rho", "fixed n", "told: labels", "calls", "power", "untold: labels",
    "calls", "power", "wrong", "coverage", "even draw: labels", "judge alone: says better", "worse", "coverage",
    "null: claims", "coverage", "judge alone: claims",
)  # fmt: skip


def row(case: Case, found: dict[str, float]) -> list[str]:
    """The table's row of a case."""
    wrong = found["not better untold"] if found["truth"] >= WORTH else 0.0
    told = [f"{found.get('labels told', math.nan):.0f}", f"{found.get('calls told', math.nan):.0f}",
            f"{found.get('better told', math.nan):.2f}"]  # fmt: skip
    return [
        case.name, case.judge, f"{found['truth']:.3f}", f"{found['rho']:.2f}",
        f"{found['fixed']:.0f}" if found["fixed"] else "-", *told,
        f"{found['labels untold']:.0f}", f"{found['calls untold']:.0f}", f"{found['better untold']:.2f}",
        f"{wrong:.3f}", f"{found['held untold']:.3f}", f"{found.get('labels even', math.nan):.0f}",
        f"{found['alone better']:.2f}", f"{found['alone worse']:.2f}", f"{found['alone held']:.2f}",
        f"{found['better null']:.3f}", f"{found['held null']:.3f}",
        f"{found['alone null better'] + found['alone null worse']:.2f}",
    ]  # fmt: skip


def summary(cases: list[tuple[Case, dict[str, float]]], size: int) -> Iterator[str]:
    """The figures over all cases of one source."""
    compared = [(c, f) for c, f in cases if f["fixed"] >= 20 and "labels told" in f]
    planned = stats.sample_size(LARGEST, statistics.median(c.deviation for c, _ in cases))
    for name, ratios in (
        ("told, labels over fixed n", [f["labels told"] / f["fixed"] for _, f in compared]),
        ("of it by the judge, 1 - rho squared", [1 - f["rho"] ** 2 for _, f in compared]),
        ("the least that any judge could leave, 1 - agreement of people", [
            1 - c.agreement for c, _ in compared if not math.isnan(c.agreement)]),
        ("untold, labels over fixed n", [f["labels untold"] / f["fixed"] for _, f in compared]),
        (f"untold, labels over a fixed n planned for {LARGEST} ({planned})",
         [f["labels untold"] / planned for _, f in cases if f["truth"] >= WORTH]),
        ("untold, drawn by error over drawn evenly",
         [f["labels untold"] / f["labels even"] for _, f in cases if "labels even" in f]),
        ("coverage of all looks together", [f["held untold"] for _, f in cases]),
        ("coverage under the null", [f["held null"] for _, f in cases]),
        ("claims under the null that V2 is better (stated: 0.025)", [f["better null"] for _, f in cases]),
        ("judge alone: claims under the null of either",
         [f["alone null better"] + f["alone null worse"] for _, f in cases]),
        ("judge alone: coverage", [f["alone held"] for _, f in cases]),
    ):  # fmt: skip
        if ratios:
            yield (
                f"* {name}: median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}), "
                f"mean {statistics.mean(ratios):.3f}, {len(ratios)} cases"
            )
    half = [c.name for c, f in compared if f["labels told"] <= f["fixed"] / 2]
    yield f"* told: half the labels or fewer in {len(half)} of {len(compared)} cases"
    wrong = sorted({f"{c.judge} on {c.name.partition(': ')[2]}" for c, f in cases if f["alone worse"] > 0.5})
    blind = sorted({f"{c.judge} on {c.name.partition(': ')[2]}" for c, f in cases
                    if f["truth"] >= WORTH and f["alone better"] < 0.5 and f["alone worse"] <= 0.5})  # fmt: skip
    yield f"* the judge alone names the worse one: {'; '.join(wrong) or 'never'}"
    yield f"* the judge alone sees no difference on {size} prompts: {'; '.join(blind) or 'never'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--pool", type=int, default=1000)
    parser.add_argument("--judges", nargs="*", default=["gpt-4", "gpt-3.5", "claude", "bard", "vicuna"], help="of PRD")
    parser.add_argument("--sources", nargs="*", default=["prd", "alpaca_eval"])
    parser.add_argument("--even", action="store_true", help="also draw labels evenly")
    given = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    made = {
        "prd": ("PRD, people's votes", prd(given.judges)),
        "alpaca_eval": ("AlpacaEval, a second judge", alpaca_eval()),
    }
    sources = {name: list(cases) for kind, (name, cases) in made.items() if kind in given.sources}
    told: dict[str, list[tuple[Case, dict[str, float]]]] = {}
    for source, cases in sources.items():
        for case in cases:
            found = measure(case, given.runs, given.pool, given.even)
            told.setdefault(source, []).append((case, found))
            print("| " + " | ".join(row(case, found)) + " |", flush=True)
    for source, cases in told.items():
        print(f"\n{source}:\n")
        print("\n".join(summary(cases, given.pool)))


if __name__ == "__main__":
    main()
