"""What a benchmark's authors concluded from it, put to the test: does it hold, is it not shown, or is it reversed?"""

from __future__ import annotations

from typing import Any

from pippin import stats
from pippin.compare.meta.between import ByJudge, difference, stacked
from pippin.compare.meta.cell import Policy, to_json
from pippin.core.types import Estimate
from pippin.data.reader import Benchmark, Claim


def claims(held: ByJudge, description: Benchmark, policy: Policy, bootstrap: stats.Bootstrap) -> list[dict[str, Any]]:
    """Each claim as paired estimates, one for each model that it is about and that is here."""
    rows = []
    over = dict(description.means)
    for claim in description.claims:
        found = _estimates(claim, held, over.get(claim.over, (claim.over,)), policy, bootstrap)
        made = [{"llm": llm, "estimate": to_json(e), "verdict": verdict(e, claim.sign)} for llm, e in found.items()]
        if made:
            rows.append({"claim": claim.text, "over": claim.over, "what": claim.what, "rows": made})
    return rows


def verdict(estimate: Estimate, sign: int) -> str:
    """Whether the interval lies wholly on the claimed side of zero, wholly on the other, or on both."""
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    return "holds" if low > 0 else "reversed" if high < 0 else "not shown"


def _estimates(
    claim: Claim, held: ByJudge, sets: tuple[str, ...], policy: Policy, bootstrap: stats.Bootstrap
) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    for by_set in held.values():
        v = next(iter(by_set.values()))
        if v.strategy.lower() != claim.strategy.lower() or not set(sets) <= set(by_set):
            continue
        if claim.models and v.llm not in claim.models:
            continue
        ours = [by_set[name] for name in sets]
        if not claim.against:
            values_N, clusters_N, strata_N = stacked(ours, policy)
            found[v.llm] = stats.mean(values_N - 0.5, clusters_N, strata=strata_N, support=(-0.5, 0.5),
                                      unit="accuracy less one half", bootstrap=bootstrap)  # fmt: skip
            continue
        others = [rival for name, rival in held.items() if name.lower() == f"{v.llm}:{claim.against}".lower()]
        if others and set(sets) <= set(others[0]):
            made = difference(ours, [others[0][name] for name in sets], policy, bootstrap)
            if made is not None:
                found[v.llm] = made
    return found
