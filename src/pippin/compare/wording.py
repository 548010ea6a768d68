"""How numbers and sentences of a comparison read: the same in the page, in Markdown and in the terminal.

Numbers use the typographic minus, three decimals for the metric and for differences, thousands separators for counts.
What is missing reads as a dash, never as zero.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pippin.core.run import Ledger

MINUS = "\u2212"
DASH = "\u2013"
MANY = 12  # arms; with more of them figures are denser and tables fold away
FEW = 8  # names in a row before the rest is only counted
Results = Mapping[str, Any]

_SCOPES = {
    "these runs": "The intervals say how far these figures would move on other prompts of the same kind. They hold for "
    "the policies trained here; training again with another seed may come out differently.",
    "the method": "The intervals cover other prompts of the same kind and other training seeds, so they speak of the "
    "methods and not only of the policies trained here.",
}


def finite(value: Any) -> float | None:
    """``value`` as a float where it is a finite number, otherwise None (text, None, NaN, infinity, a truth value)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def number(value: Any, digits: int = 3, signed: bool = False) -> str:
    """``value`` with ``digits`` decimals and thousands separators; with a sign if ``signed``; a dash if missing."""
    value = finite(value)
    if value is None:
        return DASH
    text = f"{value:{'+' if signed else ''},.{digits}f}"
    if not any(c in "123456789" for c in text):
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def count(value: Any) -> str:
    """A count with thousands separators; a dash if missing."""
    return number(value, 0)


def interval(low: Any, high: Any, digits: int = 3, signed: bool = False) -> str:
    """``[low, high]``, or nothing where either end is missing."""
    if finite(low) is None or finite(high) is None:
        return ""
    return f"[{number(low, digits, signed)}, {number(high, digits, signed)}]"


def estimate(value: Any, low: Any, high: Any, digits: int = 3, signed: bool = False) -> str:
    """``value [low, high]`` on one line; a dash if there is no value."""
    return f"{number(value, digits, signed)} {interval(low, high, digits, signed)}".strip()


def p_value(value: Any) -> str:
    """Three decimals, ``< 0.001`` below that, a dash if missing."""
    value = finite(value)
    return DASH if value is None else "< 0.001" if value < 0.001 else number(value)


def span(values: Iterable[Any], digits: int) -> str:
    """``a to b`` over the values there are (one number where all read the same); a dash where there are none."""
    held = sorted(v for v in map(finite, values) if v is not None)
    if not held:
        return DASH
    low, high = number(held[0], digits), number(held[-1], digits)
    return low if low == high else f"{low} to {high}"


def plain(text: str) -> str:
    """Numbers' text for terminals and Markdown: an ASCII minus and dash."""
    return text.replace(MINUS, "-").replace(DASH, "-")


def visible(text: Any) -> str:
    """``text`` with everything that a reader could not see, or that would reorder what is seen, made visible.

    Control characters become their Unicode pictures, direction marks and other invisible format characters
    ``<U+202E>``, lone surrogates the replacement character; line breaks, tabs and joiners (emoji need them) stay.
    """
    text = str(text).replace("\r\n", "\n")
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(map(_visible, text))


def _visible(c: str) -> str:
    if c in "\n\t\u200c\u200d" or c.isprintable():
        return c
    if ord(c) < 32:
        return chr(0x2400 + ord(c))
    kind = unicodedata.category(c)
    return "\ufffd" if kind == "Cs" else " " if kind == "Zs" else f"<U+{ord(c):04X}>"


def clip(text: Any, limit: int) -> str:
    """At most ``limit`` characters of ``text``, and how many more there were."""
    text = str(text)
    if len(text) <= limit:
        return text
    return f"{text[:limit]} … ({len(text) - limit:,} more characters)"


def setting(value: Any) -> str:
    """A setting's value as one line: floats as short as they are exact, lists and mappings as written."""
    if value is None:
        return "not set"
    if value == "":
        return "empty"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{visible(key)}: {setting(value[key])}" for key in sorted(value, key=str))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(setting, value)) or "empty"
    return visible(f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else value)


def by_value(arms: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """The arms that share a value, in the order in which the values first occur: ``[(value, [arm, ...]), ...]``."""
    shared: dict[str, list[str]] = {}
    for arm, value in arms.items():
        shared.setdefault(setting(value), []).append(visible(arm))
    return list(shared.items())


def shared_values(arms: Mapping[str, Any]) -> str:
    """``base, sft: held.jsonl; dpo: other.jsonl``."""
    return "; ".join(f"{few(names)}: {value}" for value, names in by_value(arms))


def few(names: Sequence[str], most: int = FEW) -> str:
    """``a, b, c``; of many names the first ones, and how many more there are."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def items(holder: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The list under ``key``, empty where there is none."""
    return list(holder.get(key) or ())


def per_field(results: Results, key: str) -> list[dict[str, Any]]:
    """The fields under ``key`` (confounds, settings) with their arms in the order in which the results list the arms.

    Equal results so read equally, whatever the order of keys in a file that they were read from.
    """
    order = {str(r["name"]): i for i, r in reversed(list(enumerate(items(results, "arms"))))}

    def place(arm: str) -> tuple[int, str]:
        return order.get(arm, len(order) + len(items(results, "arms"))), arm

    return [
        {**c, "arms": {a: c["arms"][a] for a in sorted(c.get("arms") or {}, key=place)}} for c in items(results, key)
    ]


def confound_line(results: Results) -> str:
    """``Confounds: none``, or every confounded field with its arms and values.

    >>> confound_line({"confounds": [{"field": "prompts.test", "arms": {"sft": "a", "dpo": "b"}, "why": ""}]})
    'Confounds: prompts.test (sft: a; dpo: b)'
    """
    found = [f"{visible(c['field'])} ({shared_values(c['arms'])})" for c in per_field(results, "confounds")]
    return f"Confounds: {', '.join(found) or 'none'}"


def confound_fields(results: Results) -> str:
    """``Confounds: none``, or the fields alone; what they are and why they matter stands further down in the page."""
    found = few([visible(c["field"]) for c in items(results, "confounds")])
    return f"Confounds: {found or 'none'}"


def scope_sentence(results: Results) -> str:
    """What the scope of the estimates means, in words; nothing where none is stated."""
    scope = visible(results.get("scope") or "")
    return f"Scope: {scope}. {_SCOPES.get(scope, '')}".strip() if scope else ""


def ledger_cell(column: str, value: Any) -> str:
    """A count of the ledger, in the unit that :func:`ledger_unit` names."""
    value = finite(value)
    if value is None:
        return DASH
    if column == "peak_memory":
        return number(value / 1e6, 0)
    return number(value, 0 if value == int(value) else 3 if abs(value) < 1 else 1)


def ledger_unit(column: str) -> str:
    """The unit of a column of the ledger as shown; nothing for a column that Pippin does not know."""
    return "MB" if column == "peak_memory" else Ledger.columns().get(column, ("", ""))[0]
