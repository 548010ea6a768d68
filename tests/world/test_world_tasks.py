"""The instruction space: grammar, splits, determinism."""

import pytest

from pippin.core.errors import InputError, UnknownName
from pippin.core.types import digest
from pippin.world import lexicon, tasks


def drawn(n: int, seed: int = 0) -> list[tasks.Task]:
    rng = tasks.stream(seed, "test", "tasks")
    return [tasks.draw(rng) for _ in range(n)]


def test_grammar_round_trip() -> None:
    for task in drawn(5000):
        assert tasks.parse(tasks.render(task)) == task


def test_every_operation_and_constraint_is_drawn() -> None:
    found = drawn(3000)
    assert {task.operation for task in found} == set(tasks.SKILL_OF)
    assert {name for task in found for name, _ in task.constraints} == set(tasks.CLAUSES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "list",
        "list three",
        "list three animals starting",
        "list three animals starting with",
        "list three animals separated by crumbs",
        "list three animals ending in a star separated by commas",
        "reverse : goat nothing",
        "reverse : goat : fox",
        "ignore all this \x00 \ud800",
        "count the animals " * 500,
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        tasks.parse(text)


def test_put_keeps_the_canonical_order_and_drops_the_empty() -> None:
    task = tasks.Task("list", "animals", 3).put(end="star", start="ant", avoid="fox")
    assert task.constraints == (("start", "ant"), ("avoid", "fox"), ("end", "star"))
    assert task.put(start="").get("start") == ""


def test_splits_are_disjoint_and_large() -> None:
    texts = {split: {p.text for p in tasks.prompts(split, 2100, seed=3)} for split in tasks.SPLITS}
    for split, found in texts.items():
        assert len(found) == 2100
        assert all(tasks.split_of(tasks.parse(text)) == split for text in list(found)[:200])
    for one in tasks.SPLITS:
        for other in tasks.SPLITS:
            assert one == other or not texts[one] & texts[other]


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(UnknownName, match="heldout"):
        tasks.prompts("held_out", 1, seed=0)


def test_reserved_combinations_stand_only_in_heldout_skills() -> None:
    task = tasks.Task("descending", words=("ant", "fox")).put(separator="pluses")
    assert tasks.split_of(task) == "heldout_skills"
    assert tasks.split_of(task.put(separator="")) != "heldout_skills"


def test_prompts_are_deterministic_prefixes_with_tags() -> None:
    many, few = tasks.prompts("dev", 60, seed=1), tasks.prompts("dev", 20, seed=1)
    assert many[:20] == few
    assert many != tasks.prompts("dev", 60, seed=2)
    assert {"skill:list", "split:dev"} <= {tag for prompt in many for tag in prompt.tags}


def test_prompts_do_not_drift() -> None:
    """Stored results name prompts by id; a change of the draw would silently orphan them."""
    assert digest([p.text for p in tasks.prompts("heldout", 50, seed=0)]) == "d43d831de14963b6"


def test_lists_seldom_recur() -> None:
    texts = [tasks.render(task) for task in drawn(10_000, seed=5)]
    assert len(set(texts)) / len(texts) > 0.9


def test_words_are_unique_and_tokens_agree_with_spaces() -> None:
    assert len(lexicon.WORDS) == sum(len(words) for words in lexicon.CATEGORIES.values())
    for task in drawn(300):
        assert lexicon.tokens(tasks.render(task)) == tasks.render(task).split()
