"""Hypothesis strategies for records of every kind."""

from hypothesis import strategies as st

from pippin.core.types import (
    Call,
    Choice,
    Key,
    Message,
    Note,
    Outcome,
    Prompt,
    Ranking,
    Response,
    Sampling,
    Score,
)

# Any text at all: lone surrogates and NUL come with hostile data sets.
words = st.text(max_size=8)
texts = st.text(st.characters(exclude_categories=()), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
counts = st.none() | st.integers(0, 10**6)
ids = st.text("0123456789abcdef", min_size=4, max_size=4)
id_lists = st.lists(ids, max_size=3).map(tuple)
messages = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts), max_size=3).map(tuple)
samplings = st.builds(Sampling, numbers, numbers, st.integers(0, 9999), st.integers(0, 2**40))
outcomes = st.sampled_from(Outcome)
stops = st.sampled_from(["end", "length", "filter", "error", ""])

prompts = st.builds(
    Prompt, messages, messages, texts, st.none() | texts, st.lists(texts, max_size=2).map(tuple)
)  # fmt: skip
responses = st.builds(
    Response, ids, messages, texts, st.integers(0, 9), st.none() | messages, stops, st.none() | samplings
)  # fmt: skip
keys = st.builds(Key, ids, texts, st.sampled_from(["", "first", "swapped"]), st.integers(0, 3), st.integers(0, 3))
calls = st.builds(
    Call, keys, ids, texts, texts, stops, st.none() | texts, texts, texts,
    st.none() | st.dictionaries(words, st.floats(allow_nan=False), max_size=3), counts, counts, counts,
    st.none() | numbers, st.none() | numbers,
)  # fmt: skip
choices = st.builds(
    Choice, ids, ids, ids, outcomes, st.text(max_size=5), st.none() | numbers, st.none() | numbers, id_lists, id_lists,
    st.text(max_size=5),
)  # fmt: skip
rankings = st.builds(
    Ranking, ids, id_lists, st.lists(st.integers(1, 5), max_size=3).map(tuple), ids, st.none() | outcomes
)  # fmt: skip
scores = st.builds(
    Score, ids, ids, st.none() | numbers, ids, texts, st.none() | st.tuples(numbers, numbers),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), numbers), max_size=2).map(tuple), st.none() | outcomes,
)  # fmt: skip
notes = st.builds(Note, ids, id_lists, texts, ids)
judgements = choices | rankings | scores | notes
