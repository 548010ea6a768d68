"""Arms of a bundle beside a study's own, without running them again.

```yaml
extend: their.zip                          # or {bundle: their.zip, arms: [dpo, ppo]}
baseline: sft                              # may be one of theirs
```

What a bundle states is not what this store ran: its cells come in under keys of their own, so that no cell of a study
of one's own is ever taken from someone else. Its arms keep the manifests that they were recorded with, and declare
nothing here: where theirs differs from this study's arms, that is a confound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pippin.compare import archive, bundle
from pippin.compare.axes import Arm
from pippin.compare.cells import ArmRun, Cell, Plan
from pippin.compare.spec import judge_scores
from pippin.core.errors import InputError, UnknownName
from pippin.core.store import Store
from pippin.core.types import digest

Json = dict[str, Any]


@dataclass(frozen=True)
class Theirs:
    """What a bundle adds to a plan: cells that are done, and the runs that they belong to."""

    cells: Mapping[str, Cell]
    runs: tuple[ArmRun, ...]

    @property
    def arms(self) -> list[str]:
        """Names of the arms, each once."""
        return list(dict.fromkeys(run.arm.name for run in self.runs))

    def of(self, seed: int) -> list[ArmRun]:
        """The runs with one training seed."""
        return [run for run in self.runs if run.seed == seed]


def read(said: Any, taken: frozenset[str] = frozenset()) -> Theirs:
    """The arms of a bundle, as ``extend`` of a study says which. ``taken``: names that the study's own arms have.

    An arm of a taken name stands under the archive's name and its own: ``their/dpo``.

    Raises:
        InputError, UnknownName: no bundle, or it has no such arm.
    """
    path, chosen = _said(said)
    with archive.opened(path) as held:
        _, plan = bundle.contents(held)
        facts = bundle.facts_of(held)
        renamed = _renamed(held, plan)
    known = list(dict.fromkeys(run.arm.name for run in plan.runs))
    for name in chosen or ():
        if name not in known:
            raise UnknownName("arm of this bundle", str(name), known, where=str(path))
    runs = [run for run in plan.runs if not chosen or run.arm.name in chosen]
    keys = {key for run in runs for key in _behind(run, plan)}
    cells = [bundle.renaming(vars(plan.cells[key]), renamed) for key in plan.cells if key in keys]
    stem = path.name.removesuffix(path.suffix)
    by_key = {row["key"]: Cell(**row) for row in cells}

    def theirs(run: ArmRun) -> ArmRun:
        name = f"{stem}/{run.arm.name}" if run.arm.name in taken else run.arm.name
        told = facts.get(bundle.manifest_of(run.arm.name, run.seed), {})
        row = {k: bundle.renaming(getattr(run, k), renamed) for k in ("policy", "responses", "verdicts", "kl")}
        judged = {d: [by_key[key].spec.get(k) for k in ("judge", "against")] for d, key in row["verdicts"].items()}
        method = run.arm.spec.get("method") or run.arm.name
        arm = Arm(name, {}, {"method": method}, {k: v for k, v in run.arm.spec.items() if k != "method"})
        external = {"name": name, "bundle": stem, "manifest": told, "judged": judged}
        return replace(run, arm=arm, external=external, **row)

    return Theirs(by_key, tuple(map(theirs, runs)))


def bring(said: Any, store: Store) -> None:
    """Put the cells of a study's ``extend`` into the store, under the keys that :func:`read` gives them.

    Raises:
        InputError: a cell of its plan is not in the bundle. It would be run here, as someone else wrote it.
    """
    with archive.opened(_said(said)[0]) as held:
        _, plan = bundle.contents(held)
        renamed = _renamed(held, plan)
        bundle.unpack(held, store, renamed)
        lost = [plan.cells[key].label for key, mine in renamed.items() if store.cell(mine) is None]
    if lost:
        raise InputError("a bundle without all of its cells", where=str(_said(said)[0]), found=lost[0])


def judged(run: ArmRun, baseline: ArmRun | None, judge: str, add: Callable[[str, Json, str], str]) -> ArmRun:
    """One of their runs with verdicts that this study can use: scores as they are; a judge of pairs is asked anew where
    another one compared, or with another baseline than this study's.

    Args:
        judge: the study's.
        add: (kind, specification, label) -> key of a cell of the plan.
    """
    if judge_scores(judge) or baseline is None or baseline.arm.name == run.arm.name:
        return run
    judged, verdicts = (run.external or {}).get("judged", {}), dict[str, str]()
    for decoding, key in run.responses.items():
        other = baseline.responses.get(decoding)
        if other is None:
            continue
        spec = {"responses": f"cell:{key}", "judge": judge, "prompts": run.evaluation["prompts"]}
        if judged.get(decoding) == [judge, f"cell:{other}"]:
            verdicts[decoding] = run.verdicts[decoding]
        else:
            label = f"{run.arm.name} judged, {decoding} (seed {run.seed})"
            verdicts[decoding] = add("judge", {**spec, "against": f"cell:{other}"}, label)
    return replace(run, verdicts=verdicts)


def _said(said: Any) -> tuple[Path, list[str]]:
    told = {"bundle": said} if isinstance(said, str) else said
    if not isinstance(told, Mapping) or not isinstance(told.get("bundle"), str) or set(told) - {"bundle", "arms"}:
        raise InputError("not what a study can extend", where="extend", found=said,
                         expected="extend: FILE.zip, or extend: {bundle: FILE.zip, arms: [NAME]}")  # fmt: skip
    return Path(told["bundle"]).expanduser(), list(told.get("arms") or ())


def _renamed(held: archive.Archive, plan: Plan) -> dict[str, str]:
    return {key: digest(["bundle", held.digest, key]) for key in plan.cells}


def _behind(run: ArmRun, plan: Plan) -> list[str]:
    """Every cell that a run stands on, and its own."""
    ends = [*run.responses.values(), *run.verdicts.values(), *filter(None, (run.kl, run.train))]
    found: list[str] = []
    while ends:
        key = ends.pop()
        if key not in found:
            found.append(key)
            ends += plan.cells[key].needs
    return found
