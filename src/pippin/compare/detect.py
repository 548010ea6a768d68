"""How small a difference a study can see, said before it is run: from verdicts of its cells where some are stored, else
from the most that answers of two arms can differ."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from pippin import stats
from pippin.compare import inputs, values
from pippin.compare.cells import Plan
from pippin.compare.inference import LEVEL
from pippin.compare.spec import judge_scores
from pippin.compare.values import METHOD, RUNS
from pippin.core.errors import InputError
from pippin.core.store import Store
from pippin.stats.resampling import SEEDS_FOR_THE_METHOD

Json = dict[str, Any]
WIN_SD = 0.5  # of a verdict against the baseline, half the prompts won outright and half lost
SCORE_SD = math.sqrt(0.5)  # of a difference of two independent scores on [0, 1], each 0 or 1 half the time
ANY_SD = math.sqrt(2.0)  # of a difference of two independent scores, in deviations of one


def detectable(plan: Plan, store: Store) -> Json:
    """The smallest true difference from its baseline that an arm of this study shows four times in five.

    At the level of the first step of Holm's correction over the arms compared, at the first decoding.

    Returns:
        ``effect``; ``unit``; ``scope``; ``n``: prompts; ``seeds``; ``comparisons``; ``basis``: ``stored cells`` or
        ``assumed``; ``sentence``. With nothing to compare ``effect`` is None.
    """
    decoding = next(iter(plan.runs[0].verdicts), "")
    pairs = [(arm, base) for arm, base in plan.baselines.items() if arm != base]
    n = len(inputs.read_prompts(plan.study.prompts.test, 0))
    seeds, arms = len(plan.study.seeds), len(pairs)
    made: Json = {"effect": None, "unit": "", "scope": RUNS, "n": n, "seeds": seeds, "comparisons": arms,
                  "basis": "", "sentence": ""}  # fmt: skip
    if not pairs or n < 2:
        return made
    seen = _from_stored(plan, store, pairs, decoding, n)
    if seen is not None:
        made |= seen | {"basis": "stored cells"}
        because = "from the verdicts that are stored"
    else:
        sd, unit, because = _assumed(plan.judge)
        effect = stats.minimum_detectable_effect(sd, n, alpha=LEVEL / arms)
        made |= {"effect": effect, "unit": unit, "basis": "assumed"}
    between = "between methods" if made["scope"] == METHOD else "between these runs"
    corrected = f", corrected for {arms} comparisons," if arms > 1 else ""
    trained = f"{seeds} seeds" if seeds > 1 else "one seed"
    said = (
        f"With {n} prompts and {trained} a difference of {made['effect']:.3f}{made['unit']} "
        f"{between}{corrected} is found four times in five ({because})."
    )
    if made["scope"] == RUNS and any(run.train for run in plan.runs):
        less = "" if seeds >= SEEDS_FOR_THE_METHOD else f"; that takes {SEEDS_FOR_THE_METHOD} seeds or more"
        said += f" What training again would change is not in it{less}."
    return made | {"sentence": said}


def _from_stored(plan: Plan, store: Store, pairs: list[tuple[str, str]], decoding: str, n: int) -> Json | None:
    """The least certain comparison among those of which both sides have verdicts; None where there is none."""
    there = []
    for run in plan.runs:
        cells = [store.cell(key) for key in run.verdicts.values()]
        if all(cell is not None and "values" in cell["result"] for cell in cells):
            there.append(run)
    live = replace(plan, runs=tuple(there))
    pool = values.pooled(live, values.read(live, store))
    for scope in (METHOD, RUNS):
        effects = []
        for arm, base in pairs:
            if (arm, decoding) not in pool or (base, decoding) not in pool:
                continue
            found = values.comparable((pool[arm, decoding], pool[base, decoding]), scope)
            if found is None:
                continue
            planned = len(plan.study.seeds) if scope == METHOD else None
            try:
                effects.append(
                    stats.detectable_difference(
                        found[0], together=found[1], prompts=n, seeds=planned, alpha=LEVEL / len(pairs)
                    )
                )
            except InputError:  # the two sides do not differ anywhere: nothing varies
                continue
        if effects:
            return {"effect": max(effects), "scope": scope}
    return None


def _assumed(judge: str) -> tuple[float, str, str]:
    """(deviation of a prompt's difference, its unit, why)."""
    if not judge_scores(judge):
        return WIN_SD, "", "assumed: half the prompts are won outright, half lost"
    if judge == "gold":
        return SCORE_SD, "", "assumed: answers of two arms are independent, half of them right"
    return ANY_SD, " deviations of a score", "assumed: answers of two arms are independent"
