"""Features of texts: counted by hand, stable under what should not matter, fast on hostile input."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pippin.data.features import NAMES, features

ANSWER = """# How to boil an egg

**Short answer:** seven minutes. __Really.__

1. Boil water
2) Add the egg
- wait
* peel
  + salt

```python
# no header!
- no item
print("Is this **bold**?")
```
## Notes
You must never, of course, hurry! Perhaps I'm sorry; happy to help. Is that all?
"""


def test_counts_by_hand() -> None:
    made = features(ANSWER)
    assert list(made) == list(NAMES)
    assert made["length_chars"] == len(ANSWER)
    assert made["list_items"] == 5
    assert made["headers"] == 2
    assert made["bold"] == 2
    assert made["code_blocks"] == 1
    assert made["exclamations"] == 1
    assert made["question_marks"] == 1
    assert made["assertive"] == 3, "must, never, of course"
    assert made["hedges"] == 1, "perhaps"
    assert made["polite"] == 2, "sorry, happy to"
    assert made["words"] == 36
    assert made["tone"] == 0


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("- one\n-two\n--- \n- ", "list_items", 1),
        ("3.14 is pi\n10. ten\n2024) a year", "list_items", 1),
        ("#tag\n# Title\n####### seven", "headers", 1),
        ("2 ** 3 ** 4, snake__case__name, **yes**, ** no **", "bold", 1),
        ("```\na\n```\n~~~\nb\n~~~", "code_blocks", 2),
        ("````\n```\ninner\n```\n````", "code_blocks", 1),
        ("text\n```\nnever closed - at all!", "code_blocks", 1),
        ("text\n```\nnever closed - at all!", "exclamations", 0),
        ("It's well-known, isn’t it", "words", 4),
        ("", "words", 0),
    ],
)
def test_rules(text: str, name: str, count: int) -> None:
    assert features(text)[name] == count


def test_tone_tells_blunt_from_polite() -> None:
    blunt = features("This is obviously and absolutely wrong. You must never do it.")
    polite = features("Thank you! Perhaps it could be improved; it seems somewhat unclear. Please try again.")
    assert blunt["tone"] > 0 > polite["tone"]
    assert blunt["tone"] == pytest.approx(100 * 4 / 11)
    assert features("")["tone"] == 0


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_any_text_has_all_features_and_a_second_copy_doubles_the_counts(text: str) -> None:
    made = features(text)
    assert set(made) == set(NAMES)
    assert all(value >= 0 for name, value in made.items() if name != "tone")
    if made["code_blocks"] == 0:
        twice = features(f"{text}\n\n{text}")
        for name in ("words", "headers", "exclamations", "question_marks"):
            assert twice[name] == 2 * made[name]


@pytest.mark.parametrize("piece", ["`", "**", "__", "**a ", "```\n", "a'", "- ", "#", "1", "*"])
def test_hostile_text_is_read_in_a_moment(piece: str) -> None:
    """Work grows with the length: a hundred thousand repeats of what could make a pattern try again and again."""
    assert features(piece * 100_000)["length_chars"] == len(piece) * 100_000
