"""The ecosystem's columns into records and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pippin.core.errors import InputError
from pippin.core.types import (
    Choice,
    Group,
    Message,
    Note,
    Outcome,
    Preference,
    Prompt,
    Ranking,
    Response,
    Sampling,
    Score,
    assistant,
    to_row,
    user,
)
from pippin.data import columns, files
from pippin.data.reader import Notes
from pippin.data.readers.messages import READER

ASK, SAY, OTHER = "Why?", "Because.", "No idea."
USER = {"role": "user", "content": ASK}
TURNS = [{"role": "system", "content": "Be brief."}, USER]


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def write(path: Path, *rows: Any) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": ASK}, user(ASK)),
        ({"prompt": [USER]}, user(ASK)),
        ({"prompt": TURNS}, (Message("system", "Be brief."), *user(ASK))),
        ({"messages": [USER]}, user(ASK)),
        ({"messages": [USER, *said(SAY)]}, user(ASK)),
        ({"conversations": [{"from": "human", "value": ASK}, {"from": "gpt", "value": SAY}]}, user(ASK)),
        ({"instruction": ASK}, user(ASK)),
        ({"instruction": ASK, "input": " "}, user(ASK)),
        ({"instruction": ASK, "input": "the sky", "output": SAY}, user(f"{ASK}\n\nthe sky")),
        (to_row(Prompt(user(ASK), source="x", tags=("t",))), user(ASK)),
    ],
)
def test_prompts(tmp_path: Path, row: dict[str, Any], expected: Any) -> None:
    [prompt] = files.read_prompts(write(tmp_path / "p.jsonl", row))
    assert prompt.messages == expected


def test_equal_prompts_are_one(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": ASK}, {"prompt": "b"}, {"prompt": [USER]})
    assert [p.text for p in files.read_prompts(path)] == [ASK, "b"]


@pytest.mark.parametrize(
    ("row", "by"),
    [
        ({"prompt": ASK, "completion": SAY, "model": "m"}, "m"),
        ({"prompt": [USER], "completion": said(SAY), "model": "m"}, "m"),
        ({"instruction": ASK, "output": SAY, "generator": "m"}, "m"),
        ({"messages": [USER, *said(SAY)], "model": "m"}, "m"),
    ],
)
def test_responses(tmp_path: Path, row: dict[str, Any], by: str) -> None:
    [(prompt, response)] = files.read_responses(write(tmp_path / "r.jsonl", row))
    assert (prompt.text, response.text, response.by, response.prompt_id) == (ASK, SAY, by, prompt.id)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASK, "chosen": SAY, "rejected": OTHER},
        {"prompt": [USER], "chosen": said(SAY), "rejected": said(OTHER)},
        {"chosen": [USER, *said(SAY)], "rejected": [USER, *said(OTHER)]},
        {"prompt": ASK, "chosen": [USER, *said(SAY)], "rejected": [USER, *said(OTHER)]},
        {"prompt": ASK, "responses": [SAY, OTHER], "scores": [2.0, 1.0]},
        {"prompt": ASK, "responses": [SAY, OTHER], "ranks": [1, 2]},
    ],
)
def test_preferences(tmp_path: Path, row: dict[str, Any]) -> None:
    from pippin.feedback.collapse import collapse

    [group] = files.read_preferences(write(tmp_path / "p.jsonl", row))
    assert group.prompt.messages == user(ASK)
    assert [r.messages for r in group.responses] == [assistant(SAY), assistant(OTHER)]
    assert collapse(group.judgements, group.responses).preferences == (Preference(0, 1),)


def test_the_implicit_prompt_is_the_longest_common_beginning() -> None:
    shared = [USER, *said("Hm."), {"role": "user", "content": "Go on."}]
    group = columns.group({"chosen": [*shared, *said(SAY)], "rejected": [*shared, *said(SAY)]})
    assert [m.content for m in group.prompt.messages] == [ASK, "Hm.", "Go on."]  # equal answers are answers still
    assert group.responses[0].id != group.responses[1].id


def test_an_unpaired_label_is_a_score() -> None:
    group = columns.group({"prompt": ASK, "completion": SAY, "label": False})
    [score] = group.judgements
    assert isinstance(score, Score) and score.value == 0.0 and score.criterion == "label"


@pytest.mark.parametrize(
    ("read", "row", "parts"),
    [
        (files.read_prompts, {"question": ASK}, ("without a prompt", "question", "expected")),
        (files.read_prompts, {"prompt": ""}, ("prompt", "a text or a list of messages")),
        (files.read_prompts, {"prompt": [{"role": "wizard", "content": "x"}]}, ("not a message", "wizard")),
        (files.read_responses, {"prompt": ASK}, ("without a response", "completion")),
        (files.read_responses, {"prompt": ASK, "completion": None}, ("without a response",)),
        (
            files.read_responses,
            {"prompt": ASK, "completion": [USER]},
            ("completion", "does not end with the assistant"),
        ),
        (files.read_responses, {"messages": said(SAY)}, ("nothing is asked",)),
        (files.read_preferences, {"prompt": ASK, "completion": SAY}, ("without a preference",)),
        (files.read_preferences, {"chosen": SAY, "rejected": OTHER}, ("without a prompt", "hh_rlhf")),
        (files.read_preferences, {"prompt": ASK, "responses": [SAY, OTHER], "scores": [1]}, ("scores", "does not fit")),
        (files.read_preferences, {"chosen": said(SAY), "rejected": said(OTHER)}, ("no prompt in common",)),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, read: Any, row: dict[str, Any], parts: tuple[str, ...]) -> None:
    good = {"prompt": "x", "chosen": "a", "rejected": "b"}
    with pytest.raises(InputError) as caught:
        read(write(tmp_path / "bad.jsonl", good, row))
    assert "bad.jsonl:2" in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def full_group() -> Group:
    prompt = Prompt(user(ASK), (Message("user", "And?"),), "here", "Since.", ("set", "x"))
    one = Response(prompt.id, assistant(SAY), "m", stop="end", sampling=Sampling(0.5, seed=3))
    two = Response(prompt.id, assistant(OTHER), "n", context=(Message("system", "bad"), *user(ASK)))
    by = {"by": "j", "calls": ("c1",)}
    return Group(
        prompt,
        (one, two),
        (
            Choice(prompt.id, one.id, two.id, Outcome.FIRST, p_first=0.75, parser="pippin-2", **by),
            Choice(prompt.id, two.id, one.id, Outcome.UNPARSED, **by),
            Ranking(prompt.id, (one.id, two.id), (1, 2), **by),
            Score(prompt.id, one.id, 0.5, spans=((0, 2, 1.0),), **by),
            Score(prompt.id, two.id, None, outcome=Outcome.REFUSED, **by),
            Note(prompt.id, (one.id,), "fine", **by),
        ),
    )


@pytest.mark.parametrize("suffix", ["jsonl", "json.gz", "parquet"])
def test_groups_lose_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"g.{suffix}"
    groups = [full_group(), columns.group({"prompt": ASK})]
    files.write_groups(path, groups)
    assert list(files.read_groups(path)) == groups


def test_a_changed_group_is_refused(tmp_path: Path) -> None:
    row = columns.group_row(full_group())
    row["responses"][0]["messages"][0]["content"] = "forged"
    with pytest.raises(InputError, match=r"g\.jsonl:1.*id"):
        list(files.read_groups(write(tmp_path / "g.jsonl", row)))


def test_judgements_lose_nothing(tmp_path: Path) -> None:
    stated = list(full_group().judgements)
    files.write_judgements(tmp_path / "j.jsonl", stated)
    assert files.read_judgements(tmp_path / "j.jsonl") == stated
    files.write_groups(tmp_path / "g.jsonl", [full_group()])
    assert files.read_judgements(tmp_path / "g.jsonl") == stated


@given(
    st.lists(
        st.tuples(st.sampled_from(["user", "system"]), st.text(min_size=1).filter(str.strip)), min_size=1, max_size=3
    ),
    st.text(),
)
def test_responses_come_back_from_their_rows(turns: list[tuple[Any, str]], text: str) -> None:
    prompt = Prompt(tuple(Message(role, content) for role, content in turns), source="s", tags=("a",))
    response = Response(prompt.id, assistant(text), "m", sample=2, stop="length")
    group = columns.group(columns.response_row(prompt, response))
    assert (group.prompt, group.responses) == (prompt, (response,))


def test_preference_rows_are_trl_s(tmp_path: Path) -> None:
    group = full_group()
    files.write_preferences(tmp_path / "p.jsonl", [(group, [Preference(1, 0), Preference(0, 1, 0.8)])])
    rows = [orjson.loads(line) for line in (tmp_path / "p.jsonl").read_bytes().splitlines()]
    assert [(r["prompt"], r["chosen"], r["rejected"]) for r in rows] == [
        ([USER], said(OTHER), said(SAY)),
        ([USER], said(SAY), said(OTHER)),
    ]
    assert "probability" not in rows[0] and rows[1]["probability"] == 0.8
    again = files.read_preferences(tmp_path / "p.jsonl")
    assert [g.responses[0].by for g in again] == ["n", "m"]
    assert {j.by for g in again for j in g.judgements} == {"j"}


def test_groups_of_one_prompt_merge() -> None:
    rows = [{"prompt": ASK, "completion": text} for text in (SAY, OTHER, SAY)] + [{"prompt": "b", "completion": SAY}]
    merged = columns.merge(map(columns.group, rows))
    assert [[r.text for r in g.responses] for g in merged] == [[SAY, OTHER], [SAY]]


def test_the_reader_says_what_it_took_the_columns_for(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"chosen": [USER, *said(SAY)], "rejected": [USER, *said(OTHER)]})
    notes = Notes()
    assert len(list(READER.read(path, notes))) == 1
    assert READER.detect is not None
    assert READER.detect(path) == "preference (chosen, rejected; messages, the prompt being what both begin with)"
    assert notes == {f"rows read as {READER.detect(path)}": 1}
