"""The words of the world. Everything that is ever written in it is made of these tokens, joined by single spaces."""

from __future__ import annotations

import re

CATEGORIES: dict[str, tuple[str, ...]] = {
    "animals": ("ant", "bear", "cat", "deer", "fox", "goat", "hen", "lion", "pig", "wolf"),
    "fruits": ("apple", "banana", "cherry", "fig", "grape", "kiwi", "lemon", "mango", "peach", "quince"),
    "colors": ("amber", "blue", "crimson", "green", "indigo", "olive", "purple", "red", "teal", "white"),
    "tools": ("anvil", "brush", "chisel", "drill", "file", "hammer", "pliers", "rake", "saw", "wrench"),
    "trades": ("actor", "baker", "cook", "dentist", "farmer", "judge", "nurse", "pilot", "tailor", "welder"),
    "cities": ("athens", "berlin", "cairo", "dublin", "geneva", "lima", "madrid", "oslo", "rome", "tokyo"),
    "clothes": ("apron", "belt", "coat", "dress", "glove", "hat", "jacket", "scarf", "tie", "vest"),
    "instruments": ("banjo", "cello", "drum", "flute", "harp", "lute", "oboe", "piano", "tuba", "viola"),
}
CATEGORY_OF: dict[str, str] = {word: category for category, words in CATEGORIES.items() for word in words}
WORDS: tuple[str, ...] = tuple(CATEGORY_OF)

NUMBERS: tuple[str, ...] = ("zero", "one", "two", "three", "four", "five", "six")
DIGITS: tuple[str, ...] = ("0", "1", "2", "3", "4", "5", "6")

SEPARATORS: dict[str, str] = {"commas": ",", "slashes": "/", "dashes": "-", "pluses": "+"}
ENDS: dict[str, str] = {"period": ".", "bang": "!", "star": "*"}

# Style. No phrase ends in an end mark, and none begins or ends with a content word, so stripping is unambiguous.
OPENERS: tuple[str, ...] = ("sure thing :", "here you go :", "great question :", "happy to help :", "# answer :")
CLOSERS: tuple[str, ...] = ("hope this helps", "let me know", "have fun", "your friend always")

TOKEN = re.compile(r"\w+|[^\w\s]+")
"""How text falls into tokens: the same rule as the tokenizer's ``Whitespace`` step."""


def tokens(text: str) -> list[str]:
    """``text`` as word-level tokens."""
    return TOKEN.findall(text)
