"""Counterfactual pairs: sums checked by arithmetic, variants checked against the pairs they were made of."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from pippin.core import catalog
from pippin.core.errors import InputError
from pippin.core.types import Choice, Group, Message, Outcome, Response
from pippin.data.reader import Notes
from pippin.data.rows import write_rows

LLMBAR = Path(os.environ.get("PIPPIN_SHARED", Path(__file__).parents[2].parent / "shared")) / "data/llmbar/datasets"
here = pytest.mark.skipif(not LLMBAR.is_dir(), reason="LLMBar is not here (PIPPIN_SHARED)")


def read(path: Path) -> tuple[list[Group], Notes]:
    notes = Notes()
    return list(catalog.load("readers", "counterfactual").read(path, notes)), notes


def gold(group: Group) -> Choice:
    [label] = [j for j in group.judgements if isinstance(j, Choice) and j.by == "gold"]
    assert (label.first, label.second) == tuple(r.id for r in group.responses)
    return label


def better(group: Group) -> tuple[Response, Response]:
    """The better response and the worse one."""
    first, second = group.responses
    return (first, second) if gold(group).outcome is Outcome.FIRST else (second, first)


ASKED = re.compile(r"Add (\d+) and (\d+)\. .* in base (10|9)\.")
STEP = re.compile(r"Column \d: (\d) \+ (\d) \+ (\d) makes (\d+); write (\d), carry (\d)\.")


def generate(n: int, seed: int) -> list[Group]:
    make = catalog.load("benchmarks", "counterfactual").generate
    assert make is not None
    return list(make(n, seed))


def test_generated_sums_are_right_and_wrong_by_arithmetic() -> None:
    groups = generate(200, 5)
    assert [g.prompt.tags for g in groups] == [("base_10",)] * 200 + [("base_9",)] * 200
    asked, habit, first, longer = defaultdict(list), 0, Counter(), 0
    for group in groups:
        found = ASKED.search(group.prompt.text)
        assert found
        one, two, base = found[1], found[2], int(found[3])
        asked[base].append((one, two))
        good, bad = better(group)
        sums = [r.text.rpartition("= ")[2].rstrip(".") for r in (good, bad)]
        assert int(sums[0], base) == int(one, base) + int(two, base)
        assert sums[0] != sums[1]
        steps = [tuple(int(x, base) for x in step) for step in STEP.findall(good.text)]
        assert len(steps) == len(one) == len(STEP.findall(bad.text))
        for i, (x, y, carried, total, digit, carry) in enumerate(steps):
            assert (x, y) == (int(one[-1 - i]), int(two[-1 - i])) and carried == (steps[i - 1][5] if i else 0)
            assert total == x + y + carried == base * carry + digit
        habit += base == 9 and int(sums[1]) == int(one) + int(two)
        first[gold(group).outcome] += 1
        longer += len(good.text) != len(bad.text)
    assert asked[9] == asked[10]  # the same numerals, so only the base differs
    assert len({g.prompt.id for g in groups}) == 2 * len(set(asked[9]))
    assert habit > 100 and longer < 20 and 160 < first[Outcome.FIRST] < 240


def test_generated_pairs_depend_on_the_seed_and_not_on_how_many() -> None:
    assert generate(20, 1) == generate(20, 1)
    assert generate(20, 1)[:10] == generate(10, 1)[:10]
    assert [g.prompt.id for g in generate(20, 1)] != [g.prompt.id for g in generate(20, 2)]
    with pytest.raises(InputError):
        generate(0, 1)


DEMANDED = re.compile(r'its (first|second|third) word is "(\w+)" and its last word is "(\w+)"\.$')


def check_variants(groups: list[Group]) -> None:
    sets: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        sets[group.prompt.tags[0]].append(group)
    assert list(sets) == ["normal", "negation", "constraint"]
    for normal, negation, constraint in zip(*sets.values(), strict=True):
        assert len({g.prompt.id for g in (normal, negation, constraint)}) == 3
        assert gold(negation).outcome is gold(normal).outcome.swap()
        assert [r.text for r in negation.responses] == [r.text for r in normal.responses]
        assert negation.prompt.text.endswith(normal.prompt.text)
        assert constraint.prompt.text.startswith(normal.prompt.text)
        found = DEMANDED.search(constraint.prompt.text)
        assert found
        place = ("first", "second", "third").index(found[1])

        def meets(response: Response, place: int = place, start: str = found[2], end: str = found[3]) -> bool:
            words = response.text.split()
            return len(words) > place and words[place] == start and words[-1] == end

        good, bad = better(constraint)
        assert meets(good) and not meets(bad)
        assert bad.text == better(normal)[0].text  # the better output, as it was, has become the worse one
        rest = good.text.split()
        del rest[place], rest[-1]
        assert rest == better(normal)[1].text.split()


@here
@pytest.mark.parametrize(("part", "n"), [("Natural", 100), ("LLMEval2", 200), ("Manual", 46)])
def test_every_variant_of_real_pairs_is_what_it_says(part: str, n: int) -> None:
    groups, notes = read(LLMBAR / part)
    check_variants(groups)
    assert {g.prompt.tags[1] for g in groups} == {part}
    assert notes["pairs of normal"] == notes["pairs of negation"] == notes["pairs of constraint"] == n


def test_variants_of_a_file_of_preferences(tmp_path: Path) -> None:
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Go"},
    ]
    rows = [
        {"prompt": "p", "chosen": "Good words here.", "rejected": "- bad"},
        {"prompt": talk, "chosen": [{"role": "assistant", "content": "a b c"}],
         "rejected": [{"role": "assistant", "content": ""}]},
        {"prompt": "tie", "chosen": "a", "rejected": "b", "probability": 0.5},
        {"prompt": "no pair", "completion": "c"},
    ]  # fmt: skip
    write_rows(tmp_path / "p.jsonl", rows)
    groups, notes = read(tmp_path / "p.jsonl")
    check_variants(groups)
    assert len(groups) == 6 and notes["left out: not a pair with one decided label"] == 2
    assert [m.content for m in groups[4].prompt.messages[:2]] == ["Hi", "Yes?"]
    assert groups[4].prompt.messages[-1] == Message("user", groups[4].prompt.text)


def write_set(folder: Path, n: int = 1) -> Path:
    rows = [{"input": f"ask {i}", "output_1": "good", "output_2": "bad", "label": 1} for i in range(n)]
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps(rows))
    return folder


def test_counterfactual_pools_no_sets(tmp_path: Path) -> None:
    write_set(tmp_path / "Manual")
    write_set(tmp_path / "Neighbor")
    with pytest.raises(InputError, match="several sets"):
        read(tmp_path)
    write_set(tmp_path / "Natural", 2)
    groups, notes = read(tmp_path)
    assert {g.prompt.tags[1] for g in groups} == {"Natural"}
    assert notes["sets left out: Manual"] == notes["sets left out: Neighbor"] == 1 and len(groups) == 6
