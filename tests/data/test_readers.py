"""Readers of named formats, on small rows and on the real files where they are."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path

import pytest

from pippin.core.errors import InputError
from pippin.core.types import Choice, Outcome
from pippin.data.reader import Notes
from pippin.data.readers import alpaca_eval, hh_rlhf, llmbar

SHARED = Path(os.environ.get("PIPPIN_SHARED", Path(__file__).parents[2].parent / "shared")) / "data"
HH = SHARED / "preference" / "hh_rlhf" / "harmless-base" / "test.jsonl.gz"


def hh_row(chosen: str, rejected: str) -> str:
    return json.dumps({"chosen": chosen, "rejected": rejected}) + "\n"


def test_hh_keeps_what_is_not_a_turn(tmp_path: Path) -> None:
    start = "\n\nHuman: Say Human: twice\n\nAssistant: Sure.\n\nHuman: Go"
    good = hh_row(f"{start}\n\nAssistant: One.\n\nTwo. Human: no turn", f"{start}\n\nAssistant:")
    path = tmp_path / "harmless-base" / "t.jsonl"
    path.parent.mkdir()
    path.write_text(good)
    notes = Notes()
    [group] = hh_rlhf.READER.read(path, notes)
    assert [m.content for m in group.prompt.messages] == ["Say Human: twice", "Sure.", "Go"]
    assert [r.text for r in group.responses] == ["One.\n\nTwo. Human: no turn", ""]
    assert group.prompt.tags == ("harmless-base",)
    assert notes == {"pairs with an empty reply": 1}


def test_hh_names_a_row_that_is_no_dialogue(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(hh_row("\n\nHuman: a\n\nAssistant: b", "just text"))
    with pytest.raises(InputError, match=r"t\.jsonl:1: not an HH-RLHF dialogue"):
        list(hh_rlhf.READER.read(path))


@pytest.mark.skipif(not HH.is_file(), reason="the HH-RLHF file is not here (PIPPIN_SHARED)")
def test_hh_real_file() -> None:
    """Counts as stated with the data: 1,473 rows, 5 with different prompts, 2 empty replies, 1,039 multi-turn."""
    notes = Notes()
    groups = list(hh_rlhf.READER.read(HH, notes))
    assert len(groups) == 1473 - 5
    assert notes["pairs dropped: the two prompts differ"] == 5
    assert notes["pairs with an empty reply"] == 2
    # 8 rows have two turns of one speaker in a row; 5 of them are those whose prompts differ
    assert notes["pairs with two turns of one speaker in a row"] == 8 - 5
    # Independent of the reader's way of splitting: the last reply is what follows the last marker.
    with gzip.open(HH, "rt", encoding="utf-8", newline="\n") as lines:
        rows = [json.loads(line) for line in lines]
    same = [r for r in rows if len({t.rpartition("\n\nAssistant:")[0] for t in r.values()}) == 1]
    assert len(same) == len(groups)
    for row, group in zip(same, groups, strict=True):
        for key, response in zip(("chosen", "rejected"), group.responses, strict=True):
            assert response.text == row[key].rpartition("\n\nAssistant:")[2].strip()
        whole = sum(len(re.sub(r"\s", "", m.content)) for m in (*group.prompt.messages, *group.responses[0].messages))
        markers = len(re.findall(r"\n\n(Human|Assistant):", row["chosen"]))
        marker_text = sum(len(f"{who}:") for who in re.findall(r"\n\n(Human|Assistant):", row["chosen"]))
        assert whole == len(re.sub(r"\s", "", row["chosen"])) - marker_text  # no text is lost
        assert markers == len(group.prompt.messages) + 1
    assert sum(any("\n\n" in r.text for r in g.responses) for g in groups) >= 70  # blank lines inside replies are kept


def test_llmbar_rows(tmp_path: Path) -> None:
    for name, label in (("Natural", 2), ("Zoo", 1)):
        (tmp_path / name).mkdir()
        row = {"input": "i", "output_1": "x", "output_2": "x", "label": label}
        (tmp_path / name / "dataset.json").write_text(json.dumps([row]))
    groups = list(llmbar.READER.read(tmp_path))
    assert [g.prompt.tags for g in groups] == [("Natural",), ("Zoo",)]
    [gold] = groups[0].judgements
    assert isinstance(gold, Choice) and gold.by == "gold" and gold.outcome is Outcome.SECOND
    assert groups[0].responses[0].id != groups[0].responses[1].id  # equal outputs are told apart
    (tmp_path / "Zoo" / "dataset.json").write_text('[{"input": "i", "output_1": "x", "output_2": "y", "label": 3}]')
    with pytest.raises(InputError, match="row 1: not a row of LLMBar"):
        list(llmbar.READER.read(tmp_path))


@pytest.mark.skipif(not (SHARED / "llmbar").is_dir(), reason="LLMBar is not here (PIPPIN_SHARED)")
def test_llmbar_real_files() -> None:
    groups = list(llmbar.READER.read(SHARED / "llmbar" / "datasets"))
    firsts: dict[str, list[int]] = {}
    for group in groups:
        [gold] = group.judgements
        assert isinstance(gold, Choice)
        counts = firsts.setdefault(group.prompt.tags[0], [0, 0])
        counts[gold.outcome is Outcome.SECOND] += 1
    assert firsts == {
        "Natural": [42, 58], "Neighbor": [75, 59], "GPTInst": [45, 47], "GPTOut": [22, 25], "Manual": [22, 24],
        "FairEval": [41, 25], "LLMEval2": [92, 108], "MT-Bench": [101, 99],
    }  # fmt: skip
    assert list(firsts)[:5] == list(llmbar.BENCHMARK.sets)
    assert len({g.prompt.id for g in groups if g.prompt.tags == ("MT-Bench",)}) == 75


def test_alpaca_eval_takes_a_text_or_samples(tmp_path: Path) -> None:
    path = tmp_path / "o.json"
    rows = [{"instruction": "i", "input": "", "output": ["a", "a", ""], "generator": "m"}]
    path.write_text(json.dumps([*rows, {"instruction": "i", "output": "b"}]))
    notes = Notes()
    one, two = alpaca_eval.READER.read(path, notes)
    assert [(r.text, r.by) for r in one.responses] == [("a", "m"), ("a", "m"), ("", "m")]
    assert len({r.id for r in one.responses}) == 3
    assert one.prompt == two.prompt
    assert notes == {"rows whose output is empty": 1}
    path.write_text(json.dumps([{"instruction": "i", "output_1": "a"}]))
    with pytest.raises(InputError, match="without a response"):
        list(alpaca_eval.READER.read(path))


@pytest.mark.parametrize(("name", "n"), [("outputs_sft.json.gz", 150), ("multisamples_sft.json", 8)])
def test_alpaca_farm_real_files(name: str, n: int) -> None:
    path = SHARED / "preference" / "alpaca_farm" / name
    if not path.is_file():
        pytest.skip("the AlpacaFarm outputs are not here (PIPPIN_SHARED)")
    groups = list(alpaca_eval.READER.read(path))
    assert len(groups) == n
    assert all(g.responses for g in groups)
