"""Features of a text that a judge may follow beside its quality: length, style, tone. Pure functions, no model.

The counts are by plain rules, stated here, so that a report can say what was counted. The word lists of tone are short
and our own; they tell a blunt answer from a polite one, not more.

Source: W.-L. Chiang, A. Angelopoulos, "Does style matter? Disentangling style and substance in Chatbot Arena" (2024)
for length, lists, headers and bold; K. Hyland, "Metadiscourse" (2005) for boosters and hedges as marks of tone.
"""

from __future__ import annotations

import re
from itertools import pairwise

LIST_ITEM = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S", re.MULTILINE)
HEADER = re.compile(r"^ {0,3}#{1,6}[ \t]+\S", re.MULTILINE)
BOLD = re.compile(r"\*\*(?=\S)(?:[^*\n]|\*(?!\*))+?(?<=\S)\*\*|(?<!\w)__(?=\S)[^_\n]+?(?<=\S)__(?!\w)")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")

ASSERTIVE = """
absolutely always certainly clearly completely definitely entirely exactly guaranteed indeed must never obviously
of-course simply surely totally undoubtedly undeniably without-doubt
"""
HEDGES = """
apparently appears approximately arguably could generally likely may maybe might often perhaps possibly presumably
probably roughly seems somewhat sometimes suggests typically usually
"""
POLITE = """
afraid apologies apologise apologize appreciate glad grateful happy-to hope kindly please pleased pleasure sorry thank
thanks welcome
"""
TONES = tuple(frozenset(words.split()) for words in (ASSERTIVE, HEDGES, POLITE))
NAMES = (
    "length_chars", "words", "list_items", "headers", "bold", "code_blocks", "exclamations", "question_marks",
    "assertive", "hedges", "polite", "tone",
)  # fmt: skip


def features(text: str) -> dict[str, float]:
    """Counts of one text, by the names in ``NAMES``.

    ``length_chars``: characters as they are. ``words``: runs of letters or digits, apostrophes and hyphens inside.
    ``list_items``: lines that begin with a bullet or a number; ``headers``: with one to six ``#``; ``bold``: spans in
    double asterisks or underscores; ``code_blocks``: fenced ones, an unclosed one too. ``exclamations``,
    ``question_marks``: the characters. ``assertive``, ``hedges``, ``polite``: words of the three lists (a hyphen there
    joins two words). ``tone``: assertive less hedging and polite words, per hundred words (0 without words): above 0 is
    blunt. Inside a code block nothing but characters is counted.

    Source: Chiang, Angelopoulos (2024) for the style counts; the word lists are ours.
    """
    prose, blocks = _without_code(text)
    words = [word.replace("’", "'") for word in WORD.findall(prose.lower())]
    spoken = [*words, *("-".join(two) for two in pairwise(words))]
    assertive, hedges, polite = (sum(word in kind for word in spoken) for kind in TONES)
    tone = 100.0 * (assertive - hedges - polite) / len(words) if words else 0.0
    found = (
        len(text), len(words), len(LIST_ITEM.findall(prose)), len(HEADER.findall(prose)), len(BOLD.findall(prose)),
        blocks, prose.count("!"), prose.count("?"), assertive, hedges, polite, tone,
    )  # fmt: skip
    return dict(zip(NAMES, map(float, found), strict=True))


def _without_code(text: str) -> tuple[str, int]:
    """The lines outside fenced code blocks, and the number of blocks."""
    prose, blocks, fence = [], 0, ""
    for line in text.split("\n"):
        mark = FENCE.match(line)
        if fence:
            closes = mark and mark[1].startswith(fence) and not line.strip().strip(fence[0])
            fence = "" if closes else fence
        elif mark:
            fence, blocks = mark[1], blocks + 1
        else:
            prose.append(line)
    return "\n".join(prose), blocks
