"""The strategies of LLMBar, driven end to end by the recorded texts of its evaluators.

Oracle: the recordings' own winners, their number of calls, and the pairs on which a second stage was run.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pippin.core import catalog
from pippin.core.types import Call, Choice, Key, Outcome, to_row
from pippin.judge.ask import ORDERS, Pair
from pippin.judge.judges.llm import LLMJudge
from pippin.lm.replay import Replay

ROOT = Path(os.environ.get("PIPPIN_SHARED", Path(__file__).parents[2].parent / "shared")) / "data" / "llmbar"
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="the LLMBar recordings are not here (PIPPIN_SHARED)")
STOPS = {"stop": "end", "length": "length", "content management policy": "filter", "content_filter": "filter"}
FILES = (
    sorted(file.name.removesuffix(".jsonl.gz") for file in (ROOT / "recordings").glob("*.gz")) if ROOT.is_dir() else []
)
NUMBER = {Outcome.FIRST: "1", Outcome.SECOND: "2"}
AIDS = ("metrics", "reference")


def rows(name: str) -> dict[str, list[Any]]:
    sets: dict[str, list[Any]] = {}
    with gzip.open(ROOT / "recordings" / f"{name}.jsonl.gz", "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            row = json.loads(line)
            sets.setdefault(row["set"], []).append(row)
    return sets


def pairs(set_name: str) -> list[Pair]:
    reader = catalog.load("readers", "llmbar")
    return [Pair(g.prompt, *g.responses) for g in reader.read(ROOT / "datasets" / set_name / "dataset.json")]


def calls(strategy: str, pair: Pair, row: Any) -> Iterator[Call]:
    """What the evaluator wrote, under the keys that our strategies use."""

    def call(key: Key, text: str, stop: str) -> Call:
        return Call(key, "", "recorded", text, STOPS.get(stop, "end"))  # type: ignore[arg-type]

    wanted = [role for role in AIDS if role in strategy]
    for role, (text, stop) in zip(wanted, row.get("aux", ()), strict=True):
        yield call(Key(pair.prompt.id, role), text, stop)
    for response, (text, stop) in zip((pair.first, pair.second), row.get("scores", ()), strict="scores" in row):
        yield call(Key(response.id, "rate"), text, stop)
    for turn, stage in enumerate(row.get("stages", ())):
        explains = strategy in ("cot", "swap_cot") or (strategy == "swap" and turn == 0)
        for order, (text, stop, _) in zip(ORDERS, stage, strict=True):
            yield call(Key(pair.id, "explain" if explains else "judge", order, turn), text, stop)


class Counted(Replay):
    """Remembers what it was asked."""

    def answer(self, requests):  # type: ignore[no-untyped-def]
        self.keys = [*getattr(self, "keys", []), *(request.key for request in requests)]
        return super().answer(requests)


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name.startswith("GPT-4") or "Swap" in name else pytest.mark.slow) for name in FILES
])  # fmt: skip
def test_same_calls_same_second_stages_same_verdicts(name: str, tmp_path: Path) -> None:
    strategy = name.partition("__")[2].lower()
    second_stages, asked = 0, 0
    for set_name, recorded in rows(name).items():
        shown = pairs(set_name)
        file = tmp_path / f"{set_name}.jsonl"
        held = [call for pair, row in zip(shown, recorded, strict=True) for call in calls(strategy, pair, row)]
        file.write_text("".join(json.dumps(to_row(call)) + "\n" for call in held), encoding="utf-8")
        model = Counted(file)
        said = LLMJudge(model, catalog.load("strategies", strategy), strategy, "llmbar").compare(shown)
        asked += len(model.keys)
        assert Counter(model.keys) == Counter(call.key for call in held)  # each recorded call once, and no other
        second_stages += sum(key.turn == 1 for key in model.keys)
        for n, row in enumerate(recorded):
            ours = winners(said[2 * n : 2 * n + 2])
            split = {"1", "2"}
            assert ours == row["final"] or (ours == [None, None] and set(row["final"]) == split and "scores" in row)
    if name == "GPT-4__Swap":
        assert (asked, second_stages) == (838 + 94, 94)


def winners(said: list[Choice]) -> list[str | None]:
    """In the data's numbering, as the recordings state them."""
    return [NUMBER.get(said[0].outcome), NUMBER.get(said[1].outcome.swap())]
