"""Every pair of a set with what each judge said of it, as one page that needs no network.

The data stand in the page as JSON in which nothing can end the element; its script shows them as text, never as markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pippin.compare import wording as w
from pippin.compare.meta import rendering
from pippin.compare.meta.labelled import LabelledSet
from pippin.compare.meta.run import Found
from pippin.compare.meta.verdicts import Said, Verdicts
from pippin.core.types import Call, digest

if TYPE_CHECKING:
    from pippin.core.store import Store

LIMIT = 20_000  # characters shown of one text
MOST = 15_000_000  # bytes of a page
CUTS = ((LIMIT, LIMIT), (4000, LIMIT), (1000, LIMIT), (300, LIMIT), (80, LIMIT), (0, LIMIT), (0, 4000), (0, 1000),
        (0, 300), (0, 80))  # fmt: skip
"""Characters kept of what judges said, and of prompts and responses: the first with which a page is small enough."""


def file_names(sets: Iterable[str]) -> dict[str, str]:
    """A file name for each set, of letters, digits, dots, hyphens and underscores: the set's own where that is safe."""
    names = list(sets)
    folded = [name.casefold() for name in names]
    found = {}
    for name in names:
        safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:80]
        unsafe = not safe or safe != name or re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name)
        if unsafe or folded.count(name.casefold()) > 1:
            safe = f"{safe or 'set'}-{digest(['set', w.visible(name), [ord(c) for c in name]], 8)}"
        found[name] = f"{safe}.html"
    return found


def page(found: Found, name: str, store: Store | None = None, *, most: int = MOST) -> bytes:
    """The page of one set; texts are cut further where it would be larger than ``most`` bytes, and the page says so."""
    part = found.parts[name]
    verdicts = [v for v in found.verdicts if v.part is part]
    calls = _calls(verdicts, store)
    shell = rendering.allowed(("report.css", "meta.css"), ("instances.js",))
    content = b""
    for judges, pairs in CUTS:
        data = _embedded(_data(part, verdicts, calls, judges, pairs))
        said = _said(judges, pairs, most)
        made = rendering.environment(html=True).get_template("instances.html.j2").render(
            name=name, benchmark=found.result["benchmark"], pairs=len(part.pairs), judges=len(verdicts), said=said,
            data=data, **shell,
        )  # fmt: skip
        content = made.encode()
        if len(content) <= most:
            break
    return content


def _said(judges: int, pairs: int, most: int) -> str:
    """What was cut so that the page is small enough."""
    if judges == LIMIT:
        return ""
    said = "What judges said is left out here" if not judges else f"What judges said is cut to {judges:,} characters"
    said += f", prompts and responses to {pairs:,}" if pairs < LIMIT else ""
    return f"{said}: the whole would be more than {most / 1e6:g} MB."


def _embedded(value: Any) -> str:
    """JSON that can stand in an HTML page, and that no reader takes for the end of it or of a line."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "&<>\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


class _Texts:
    """Texts, each once, made visible and cut; referred to by their place."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self._at: dict[tuple[str, int], int] = {}

    def add(self, text: str, limit: int) -> int:
        key = (text, limit)
        if key not in self._at:
            self._at[key] = len(self.held)
            self.held.append(rendering.visible(w.clip(text, limit)))
        return self._at[key]


def _data(
    part: LabelledSet, verdicts: Sequence[Verdicts], calls: Mapping[str, Call], judges: int, pairs: int
) -> dict[str, Any]:
    """What the page holds. Gold and votes are 1 for the first response of the pair, -1 for the second, 0 a tie."""
    texts = _Texts()
    rows = []
    for n, pair in enumerate(part.pairs):
        row: dict[str, Any] = {
            "prompt": [[_short(m.role), texts.add(m.content, pairs)] for m in pair.prompt.messages],
            "outputs": [texts.add(r.text, pairs) for r in (pair.first, pair.second)],
            "by": [_short(r.by) for r in (pair.first, pair.second)],
            "gold": _number(part.gold_N[n]),
        }
        if pair.prompt.reference:
            row["reference"] = texts.add(pair.prompt.reference, pairs)
        if part.votes_N_R is not None:
            row["votes"] = [_number(vote) for vote in part.votes_N_R[n]]
        rows.append(row)
    said = [
        {
            "name": _short(v.name), "kind": _short(v.kind), "rows": [int(n) for n in v.rows_M],
            "said": [[_one(one, calls, texts, judges) for one in orders]
                     for orders in zip(v.original, v.swapped, strict=True)],
        }
        for v in verdicts
    ]  # fmt: skip
    people = [_short(name) for name in part.people]
    return {"people": people, "pairs": rows, "judges": said, "texts": texts.held}


def _one(said: Said, calls: Mapping[str, Call], texts: _Texts, limit: int) -> list[Any]:
    """Outcome, probability of the first shown, strength, parser, conflict, and the texts that led to it."""
    held = list(said.texts) if said.texts else [text for key in said.calls for text in _of_call(key, calls)]
    shown = [[_short(role), texts.add(text, limit)] for role, text in held]
    return [str(said.outcome), _number(said.p_first), _number(said.strength), said.parser, int(said.conflict), shown]


def _of_call(key: str, calls: Mapping[str, Call]) -> list[tuple[str, str]]:
    """The role and the text of a call, and the log-probabilities that came with it."""
    call = calls.get(key)
    if call is None:
        return [("call", "not in the store that this page was made from")]
    role = call.key.role + (f" {call.key.sample}" if call.key.sample else "")
    role += f", turn {call.key.turn}" if call.key.turn else ""
    role += f", {call.stop}" if call.stop not in ("", "end") else ""
    found = [(role, call.text if call.error is None else f"{call.text}\n{call.error}".strip())]
    if call.logprobs:
        found.append((f"{role}, log-probabilities", "\n".join(f"{k}: {v:.4f}" for k, v in call.logprobs.items())))
    return found


def _calls(verdicts: Sequence[Verdicts], store: Store | None) -> dict[str, Call]:
    if store is None:
        return {}
    ids = dict.fromkeys(
        key for v in verdicts for one in (*v.original, *v.swapped) if not one.texts for key in one.calls
    )
    return store.calls(ids)


def _short(text: str) -> str:
    return rendering.visible(w.clip(text, 200))


def _number(value: float | None) -> float | int | None:
    """A plain number of at most six digits, None where there is none."""
    if value is None or not np.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else round(float(value), 6)
