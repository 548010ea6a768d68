"""A meta-evaluation as rows of text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pippin.core.types import Outcome


def table(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """The rows that a person reads: judges of each set, best first, and the trivial rules among them."""
    rows = []
    ranked = [*result["cells"], *result["baselines"]]
    for name in result["sets"]:
        here = [row for row in ranked if row["set"] == name]
        rows += [_line(row) for row in sorted(here, key=lambda r: -(r["accuracy_pct"] or 0.0))]
    for row in result["means"]:
        line = dict.fromkeys(rows[0], "") if rows else {}
        line |= {"set": f"mean: {row['name']}", "judge": row["judge"], "n": str(row["n"])}
        rows.append(line | {"accuracy %": percent(row["accuracy"])})
    return rows


def percent(value: Mapping[str, float] | None) -> str:
    """A share with its interval, in percent."""
    return "-" if value is None else f"{100 * value['value']:.1f} [{100 * value['low']:.1f}, {100 * value['high']:.1f}]"


def points(value: Mapping[str, float]) -> str:
    """A difference of shares with its interval, in points."""
    return f"{100 * value['value']:+.1f} [{100 * value['low']:+.1f}, {100 * value['high']:+.1f}]"


def money(spent: Mapping[str, Any]) -> str:
    """What a judge's calls cost, as far as it is known."""
    if not spent.get("calls"):
        return "-"
    price = spent.get("price")
    return f"{spent['calls']} calls, " + ("price unknown" if price is None else f"${price:.2f}")


def _line(row: Mapping[str, Any]) -> dict[str, str]:
    shares = row["consistency"]
    return {
        "set": row["set"], "judge": row["judge"], "n": str(row["n"]),
        "accuracy %": percent(row["accuracy"]), "agreement %": percent(row["agreement"]),
        "right/split/wrong %": "/".join(_point(shares.get(key)) for key in ("right", "split", "wrong")),
        "first shown %": percent(row["first_shown"]),
        "gold longer/shorter %": "/".join(_point((row["length"] or {}).get(f"accuracy_gold_{key}"))
                                          for key in ("longer", "shorter")),
        "missing": str(sum(count for name, count in row["outcomes"].items() if Outcome(name).missing)),
    }  # fmt: skip


def _point(value: Mapping[str, float] | None) -> str:
    return "-" if value is None else f"{100 * value['value']:.0f}"
