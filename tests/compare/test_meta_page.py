"""The pages of a meta-evaluation: every number is the result's, every section is there, no text from outside acts."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the neighbours below

from test_meta import ROOT, build, noisy, real, shown_good
from test_report import Reader

from pippin.compare.meta import instances, page
from pippin.compare.meta.run import Found, evaluate
from pippin.core.store import Store
from pippin.core.types import Message, Request, Response
from pippin.lm.scripted import Scripted

PAGES = {"Natural": "instances/Natural.html", "Manual": "instances/Manual.html"}
HOSTILE = (
    "<script>alert(1)</script></script><!--", "\x1b[31mred\x1b[0m\x00", "\u202eevil\u2066", "\ud800 alone",
    "## Accuracy by set\n| a | b |\n", "![x](http://example.invalid/x.png) [y](javascript:alert(1))", "]]>&amp;&lt;",
    "\u2028line\u2029", "'\"><img src=x onerror=alert(1)>", "=HYPERLINK(1)",
)  # fmt: skip


def silent(request: Request) -> str:
    return "Hm." if "Natural 1" in request.messages[1].content else noisy(0.6)(request)


def sure(request: Request) -> dict[str, float]:
    """A judge with probabilities: mostly right, and surer of some pairs than of others."""
    text = request.messages[1].content
    gap = (sum(map(ord, text)) % 7 - 2) / 2
    return {"(a)": -1.0 + (gap if shown_good(request) else -gap), "(b)": -1.0}


def planted(folder: Path, store: Store | None = None, more: int = 0) -> Found:
    scripts: dict[str, Callable[[Request], Any]] = {"good": noisy(0.95), "silent": silent, "sure": sure}
    scripts |= {f"plain{i}": noisy(0.5 + 0.1 * i) for i in range(more)}
    models = {name: Scripted(script, name) for name, script in scripts.items()}
    given: dict[str, Any] = {"data": folder, "models": models, "resamples": 200, "store": store}
    return evaluate("llmbar", list(models), against="good:vanilla", repeats=2, **given)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("bench"), 40)


@pytest.fixture(scope="module")
def found(bench: Path) -> Found:
    return planted(bench)


@pytest.fixture(scope="module")
def html(found: Found) -> str:
    return page.page(found.result, "pippin meta llmbar")


def reader(html: str) -> Reader:
    return Reader(html.replace("<wbr>", ""))  # where a name may break


def ids(html: str) -> list[str]:
    return re.findall(r'<section id="([^"]+)"', html)


def table_of(html: str, section: str, nth: int = 0) -> list[list[str]]:
    """The texts of the cells of a table, the head first; group headings are left out."""
    inside = html[html.index(f'<section id="{section}"') :]
    inside = inside[: inside.index("</section>")]
    table = re.findall(r"<table.*?</table>", inside, re.DOTALL)[nth]
    rows = [row for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL) if "rowgroup" not in row]
    return [[reader(c).text for c in re.findall(r"<t[hd].*?</t[hd]>", row, re.DOTALL)] for row in rows]


def shown(e: dict[str, float], scale: float = 100.0, digits: int = 1) -> str:
    """An estimate as a reader sees it, formatted here anew."""
    value, low, high = (f"{scale * e[key]:.{digits}f}".replace("-", "\u2212") for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def structure(html: str, section: str) -> list[str]:
    inside = html[html.index(f'<section id="{section}"') :]
    inside = inside[: inside.index("</section>")].replace("<section", "<div", 1) + "</div>"
    return [tag for tag, _ in reader(inside).elements]


def number(text: str) -> float | None:
    """The first number of a cell, None for a dash."""
    first = text.split()[0].replace("\u2212", "-")
    return None if first == "\u2013" else float(first)


def test_the_answer_comes_first_then_the_sections_in_order(found: Found, html: str) -> None:
    assert ids(html) == ["answer", "by-set", "set-0", "set-1", "biases", "calibration", "differences", "noise", "apart",
                         "policies", "data", "reproduce"]  # fmt: skip
    read = reader(html)
    means = [c["accuracy"] for c in found.result["cells"] if c["judge"] == "good:vanilla"]
    for name, e in zip(found.parts, means, strict=True):
        value = shown(e).replace(" [", " % [")
        assert f"{name} ({value}, n 80)" in read.text[: read.text.index("Know this before you use the numbers")]
    assert "which reads nothing, gets" in read.text and "pippin meta llmbar" in read.text
    for said in ("beats every trivial rule", "cannot be told from", "seed 0", "resamples 200"):
        assert said in read.text, said


def test_accuracy_by_set_is_the_result(found: Found, html: str) -> None:
    head, *rows = table_of(html, "by-set")
    assert [text.split(" n ")[0].split()[0] for text in head] == ["judge", "Natural", "Manual"]
    cells = [*found.result["cells"], *found.result["baselines"]]
    assert {row[0] for row in rows} == {cell["judge"] for cell in cells} and len(rows) == 6
    for cell in cells:
        row = next(row for row in rows if row[0] == cell["judge"])
        text = row[1 + ["Natural", "Manual"].index(cell["set"])]
        assert text.startswith(shown(cell["accuracy"])), cell["judge"]
        assert f"n {cell['accuracy']['n']}" in text + head[1] + head[2]


def test_each_set_shows_what_accuracy_hides(found: Found, html: str) -> None:
    head, *rows = table_of(html, "set-0")
    column = {text.split(" n ")[0]: i for i, text in enumerate(head)}
    for cell in (c for c in [*found.result["cells"], *found.result["baselines"]] if c["set"] == "Natural"):
        row = next(row for row in rows if row[0] == cell["judge"])
        assert row[column["orders agree %"]].startswith(shown(cell["agreement"]))
        triple = [f"{100 * cell['consistency'][name]['value']:.1f}" for name in ("right", "split", "wrong")]
        assert row[column["right / split / wrong %"]].startswith(" / ".join(triple))
        first = cell["first_shown"]
        lean = "first" if first["low"] > 0.5 else "second" if first["high"] < 0.5 else "none"
        assert row[column["first shown %"]].startswith(f"{100 * first['value']:.1f} {lean}")
        for name in ("longer", "shorter"):
            assert row[column[f"accuracy, better is {name} %"]].startswith(
                shown(cell["length"][f"accuracy_gold_{name}"])
            )
        kappa = cell["with_gold"]["kappa"]
        assert row[column["κ with people"]].startswith(shown(kappa, 1, 2))
        assert "first: people 50 %" in row[column["κ with people"]]
        unparsed = cell["outcomes"].get("unparsed", 0)
        assert row[column["missing"]].startswith(str(unparsed))
        if unparsed:
            worst, best = (f"{100 * bound:.1f}" for bound in cell["accuracy_bounds"])
            assert f"unparsed {unparsed} accuracy {worst} to {best}" in row[column["missing"]]
    assert sum(c["outcomes"].get("unparsed", 0) for c in found.result["cells"]) > 0


def test_biases_differences_calibration_and_noise_are_the_results(found: Found, html: str) -> None:
    _, *rows = table_of(html, "biases")
    cells = {c["judge"]: c for c in found.result["cells"] if c["set"] == "Natural"}
    for row in (row for row in rows if row[0] in cells):
        odds = cells[row[0]]["biases"].get("log_odds", {})
        first = odds.get("shown_first")
        assert number(row[1]) == (pytest.approx(first["value"], abs=0.005) if first else None)
    differences = {(d["judge"], d["set"]): d["difference"] for d in found.result["differences"]}
    _, *rows = table_of(html, "differences")
    for row in rows:
        for place, name in ((1, "Natural"), (2, "Manual")):
            assert f"{100 * differences[row[0], name]['value']:+.1f}".replace("-", "\u2212") in row[place]
            assert "p " in row[place]
    _, row = table_of(html, "calibration")
    brier = cells["sure:vanilla"]["calibration"]["brier"]
    assert row[0] == "sure:vanilla" and row[1].startswith(shown(brier, 1, 3))
    assert html.count('<svg class="plot half"') == 2 * 2  # reliability and abstention on each set
    bins = [b for b in cells["sure:vanilla"]["calibration"]["reliability"] if b["share"]]
    _, *rows = table_of(html, "calibration", 1)
    assert [number(row[2]) for row in rows] == [pytest.approx(100 * b["share"]["value"], abs=0.05) for b in bins]
    _, *rows = table_of(html, "noise")
    assert len(rows) == len(found.result["noise"]) == 6
    assert rows[0][1].startswith(shown(found.result["noise"][0]["not_unanimous"]))


def test_a_judge_without_probabilities_has_one_line(bench: Path) -> None:
    models = {"m": Scripted(noisy(0.9), "m")}
    result = evaluate("llmbar", ["m"], data=bench, models=models, resamples=100, sets=["Manual"]).result
    html = page.page(result)
    assert "no probabilities: the judge gives no log-probabilities" in reader(html).text
    assert not {"differences", "noise", "people", "peers", "claims", "within", "parsers", "policies"} & set(ids(html))
    assert reader(html).text.count("m:vanilla is right in") == 1  # one set: its sentence is the headline


def test_a_judge_without_a_verdict_is_no_judge_that_is_right(bench: Path) -> None:
    models = {"mute": Scripted(lambda _: "Hm.", "mute")}
    result = evaluate("llmbar", ["mute"], data=bench, models=models, resamples=100, sets=["Manual"]).result
    text = page.markdown(result)
    assert text.startswith("**No judge has a verdict on a pair that people decided: there is no accuracy.**")
    assert "cannot be told from rule/longer" not in text
    row = next(line for line in text.splitlines() if line.startswith("| mute:vanilla | - |"))
    assert row and "unparsed 80 accuracy 0.0 to 100.0" in text


def test_best_of_several_stands_beside_the_pairs_by_subset(tmp_path: Path) -> None:
    rows = [
        {"id": str(i), "prompt": f"q{i}", "chosen": ["x" * (9 if i % 3 else 1)], "rejected": ["aa", "bbb", "cccc"],
         "num_correct": 1, "num_incorrect": 3, "total_completions": 4, "models": ["m1", "m2", "m3", "m4"],
         "subset": ("Math", "Focus")[i % 2], "additional_metadata": {}} for i in range(24)
    ]  # fmt: skip
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = evaluate("reward_bench_2", ["rule/longer"], data=tmp_path, resamples=100).result
    html = page.page(result)
    head, *rows_of = table_of(html, "by-set")
    assert {text.split()[0] for text in head} >= {"judge", *result["sets"]}
    head, *rows_of = table_of(html, "set-0")
    place = next(i for i, text in enumerate(head) if text.startswith("best of several"))
    for row in rows_of:
        [cell] = [c for c in (*result["cells"], *result["baselines"])
                  if (c["judge"], c["set"]) == (row[0], next(iter(result["sets"])))]  # fmt: skip
        assert row[place].startswith(shown(cell["best_of"]))


def test_the_csv_and_the_json_hold_every_number(found: Found, tmp_path: Path) -> None:
    page.write(found, tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "cells.csv").read_text())))
    cells = [*found.result["cells"], *found.result["baselines"]]
    assert len(rows) == len(cells) == 12
    for row, cell in zip(rows, cells, strict=True):
        assert (row["judge"], row["set"], int(row["n"])) == (cell["judge"], cell["set"], cell["n"])
        for end, key in (("", "value"), ("_low", "low"), ("_high", "high")):
            assert float(row[f"accuracy{end}"]) == cell["accuracy"][key]
            assert float(row[f"consistency_right{end}"]) == cell["consistency"]["right"][key]
        assert int(row["unparsed"]) == cell["outcomes"].get("unparsed", 0)
        assert float(row["accuracy_worst_case"]) == cell["accuracy_bounds"][0]
    assert json.loads((tmp_path / "results.json").read_text()) == found.result


def test_equal_results_give_equal_bytes(found: Found, tmp_path: Path) -> None:
    again = replace(found, result=json.loads(json.dumps(found.result)))
    one, two = page.write(found, tmp_path / "a", command="c"), page.write(again, tmp_path / "b", command="c")
    assert [p.relative_to(tmp_path / "a").as_posix() for p in one] == [
        "report.html", "report.md", "cells.csv", "results.json", "instances/Natural.html", "instances/Manual.html"
    ]  # fmt: skip
    for ours, theirs in zip(one, two, strict=True):
        assert ours.read_bytes() == theirs.read_bytes(), ours.name


def test_the_markdown_has_the_same_tables(found: Found) -> None:
    text = page.markdown(found.result, "pippin meta llmbar")
    assert text.startswith("**") and "\n\n\n" not in text
    for title in ("Accuracy by set", "Natural", "Biases", "Differences from good:vanilla", "How to reproduce"):
        assert f"\n## {title}\n" in text
    row = next(line for line in text.splitlines() if line.startswith("| good:vanilla |"))
    first = next(c for c in found.result["cells"] if c["judge"] == "good:vanilla")
    assert shown(first["accuracy"]) in row
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block[:200]


def test_drawings_are_well_formed_and_described(html: str) -> None:
    names = []
    for drawing in re.findall(r"<svg class=\"plot.*?</svg>", html, re.DOTALL):
        root = ET.fromstring(drawing)
        assert root[0].text and root[1].text
        names.append(root[0].get("id"))
        text = ET.tostring(root, encoding="unicode")
        assert "nan" not in re.sub(r">[^<]*<", "", text) and "inf" not in re.sub(r">[^<]*<", "", text)
    assert len(names) == len(set(names)) >= 8


# ---------------------------------------------------------------- pairs


def embedded(content: bytes) -> dict[str, Any]:
    text = content.decode()
    [data] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert not set(data) & set("<>&\u2028\u2029")
    return json.loads(data)


def test_every_pair_and_every_call_stands_in_its_page(bench: Path, tmp_path: Path) -> None:
    with Store(tmp_path / "store.db") as store:
        found = planted(bench, store)
        data = embedded(instances.page(found, "Natural", store))
        without = embedded(instances.page(found, "Natural"))
    assert len(data["pairs"]) == 40 and [j["name"] for j in data["judges"]][:2] == ["good:vanilla", "silent:vanilla"]
    part = found.parts["Natural"]
    for n, pair in enumerate(data["pairs"]):
        assert [data["texts"][at] for at in pair["outputs"]] == [part.pairs[n].first.text, part.pairs[n].second.text]
        assert pair["gold"] == part.gold_N[n]
    mine = next(v for v in found.verdicts if v.name == "silent:vanilla" and v.set == "Natural")
    for row, (one, two) in zip(data["judges"][1]["rows"], data["judges"][1]["said"], strict=True):
        for said, truth in ((one, mine.original[row]), (two, mine.swapped[row])):
            assert said[0] == str(truth.outcome) and said[3] == truth.parser
            [(_, at)] = said[5]
            assert data["texts"][at] == ("Hm." if said[0] == "unparsed" else f"({'ab'[said[0] == 'second']})")
    probable = next(j for j in data["judges"] if j["name"] == "sure:vanilla")
    assert 0 < probable["said"][0][0][1] < 1 and any("log-prob" in role for role, _ in probable["said"][0][0][5])
    assert "not in the store" not in json.dumps(data) and "not in the store" in json.dumps(without)


def test_file_names_are_safe_and_their_own() -> None:
    names = ["Natural", "natural", "../../etc/passwd", "a b", "a/b", "", "CON", "ü" * 300, "x\x00\ud800", "A_1.b-2"]
    made = instances.file_names(names)
    assert made["A_1.b-2"] == "A_1.b-2.html"
    assert len({name.casefold() for name in made.values()}) == len(names)
    for name in made.values():
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.html", name) and name.casefold() != "con.html"


def test_long_texts_are_cut_and_large_pages_cut_further(found: Found) -> None:
    part = found.parts["Natural"]
    pair = part.pairs[0]
    long = replace(pair, first=Response(pair.prompt.id, (Message("assistant", "x" * 100_000),)))
    larger = replace(part, pairs=(long, *part.pairs[1:]))
    verdicts = tuple(
        replace(v, part=larger, original=(replace(v.original[0], texts=(("judge", "y" * 30_000),)), *v.original[1:]))
        for v in found.verdicts if v.part is part
    )  # fmt: skip
    held = Found(found.result, {"Natural": larger}, verdicts)
    content = instances.page(held, "Natural")
    texts = embedded(content)["texts"]
    assert max(map(len, texts)) < 20_100
    assert any(t.endswith("(80,000 more characters)") for t in texts) and any("(10,000 more" in t for t in texts)
    assert b"What judges said is cut" not in content
    small = instances.page(held, "Natural", most=len(content) - 10_000)
    assert b"What judges said is cut to 4,000 characters: the whole would be more than" in small
    assert len(small) <= len(content) - 10_000 and max(map(len, embedded(small)["texts"])) > 20_000
    assert b"prompts and responses to" in instances.page(held, "Natural", most=len(small) - 8_000 - 10_000)


# ---------------------------------------------------------------- hostile text


def hostile(found: Found) -> Found:
    """The same numbers under hostile names and texts everywhere."""
    names = {row["judge"]: f"{row['judge']} {''.join(HOSTILE)}" for row in found.result["cells"]}
    names |= {name: f"{name} {HOSTILE[i]}" for i, name in enumerate(found.parts)}

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {names.get(key, key): renamed(held) for key, held in value.items()}
        if isinstance(value, list):
            return [renamed(held) for held in value]
        return names.get(value, value) if isinstance(value, str) else value

    parts = {}
    for name, part in found.parts.items():
        pairs = []
        for i, pair in enumerate(part.pairs):
            text = HOSTILE[i % len(HOSTILE)] + ("z" * 100_000 if i == 0 else "")
            prompt = replace(pair.prompt, messages=(Message("user", text),), reference=text)
            both = [Response(prompt.id, (Message("assistant", f"{k} {text}"),), by=text) for k in range(2)]
            pairs.append(replace(pair, prompt=prompt, first=both[0], second=both[1]))
        parts[names[name]] = replace(part, name=names[name], pairs=tuple(pairs))
    verdicts = []
    for v in found.verdicts:
        said = [tuple(replace(one, texts=((HOSTILE[0], HOSTILE[i % len(HOSTILE)]),)) for i, one in enumerate(orders))
                for orders in (v.original, v.swapped)]  # fmt: skip
        verdicts.append(replace(v, part=parts[names[v.set]], llm=names.get(v.name, v.llm), strategy="",
                                original=said[0], swapped=said[1]))  # fmt: skip
    result = renamed(copy.deepcopy(found.result))
    result["warnings"] = list(HOSTILE)
    result["note"] = result["policy_says"] = HOSTILE[0]
    result["skipped"] = [{"file": text, "why": text} for text in HOSTILE]
    result["parser_changes"] = [
        {"judge": text, "set": text, "pair": 0, "order": "original", "published": "first", "here": "second",
         "conflict": True, "text": text} for text in HOSTILE
    ]  # fmt: skip
    return Found(result, parts, tuple(verdicts))


def test_hostile_text_changes_nothing_but_itself(found: Found, tmp_path: Path) -> None:
    bad = hostile(found)
    made = page.write(bad, tmp_path, command=" ".join(HOSTILE))
    assert all(path.resolve().is_relative_to(tmp_path.resolve()) for path in made)
    for path in made:
        text = path.read_bytes().decode()
        if path.suffix != ".json":
            assert not set(text) & set("\x1b\x00\u202e\u2066\u2028\u2029"), path.name
    html = made[0].read_text()
    tags = {tag for tag, _ in reader(html).elements}
    assert not tags & {"img", "iframe", "object", "embed", "base"}
    for section in ("by-set", "set-0", "differences", "noise"):
        assert structure(html, section) == structure(page.page(found.result, "c", PAGES), section)
    assert html.count("<script") == 1 and "alert(1)" in reader(html).text
    for tag, attributes in reader(html).elements:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        target = attributes.get("href") or ""
        assert re.match(r"#|instances/[A-Za-z0-9._-]+\.html$|data:image/svg", target) or not target
    assert "\u241b[31mred" in html and "<U+202E>evil" in reader(html).text
    _, *rows = table_of(html, "by-set")
    for cell in bad.result["cells"]:
        assert any(shown(cell["accuracy"]) in " ".join(row) for row in rows)
    same = [i for i in ids(html) if i != "parsers"]
    assert same == ids(page.page(found.result, "c"))
    for path in made[4:]:
        content = path.read_bytes()
        data = embedded(content)
        assert content.count(b"<script") == 2 and len(data["pairs"]) == 40
        assert all("\x1b" not in text and "\ud800" not in text for text in data["texts"])


def test_hostile_text_stays_within_its_cell_in_markdown_and_csv(found: Found) -> None:
    bad = hostile(found)
    text = page.markdown(bad.result, " ".join(HOSTILE))
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    clean = [line for line in page.markdown(found.result, "c").splitlines() if line.startswith("## ")]
    assert len(titles) == len(clean) + 1 + text.count("\n## Accuracy by set\n| a | b |")  # raw texts stand in fences
    outside = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside and "<img" not in outside
    assert not re.search(r"(?<!\\)\]\((?!instances/)", outside)
    rows = list(csv.reader(io.StringIO(page.cells(bad.result))))
    assert len({len(row) for row in rows}) == 1 and len(rows) == 13
    assert not any(cell.startswith(("=", "@")) for row in rows for cell in row)


# ---------------------------------------------------------------- the real recordings


MODELS = ("GPT-4", "ChatGPT", "Falcon")
STRATEGIES = ("Vanilla_NoRules", "Vanilla", "CoT", "Swap_CoT", "Rating", "Metrics_Reference")


def recorded(folder: Path, models: tuple[str, ...], strategies: tuple[str, ...], **options: Any) -> Found:
    for name in (f"{model}__{strategy}.jsonl.gz" for model in models for strategy in strategies):
        if (ROOT / "recordings" / name).exists():
            (folder / name).symlink_to(ROOT / "recordings" / name)
    return evaluate("llmbar", data=ROOT / "datasets", recordings=folder, resamples=100, **options)


@real
def test_the_recordings_as_published_show_claims_strategies_and_noise(tmp_path: Path) -> None:
    found = recorded(tmp_path, MODELS, STRATEGIES, parser="llmbar", limit=12)
    html = page.page(found.result)
    assert {"pooled", "within", "claims", "noise", "apart"} <= set(ids(html)) and "parsers" not in ids(html)
    head, *rows = table_of(html, "by-set")
    assert len(rows) == 17 + 3 and len(head) == 1 + 5 + 2
    means = {(m["judge"], m["name"]): m["accuracy"] for m in found.result["means"]}
    for row in rows:
        assert row[6].startswith(shown(means[row[0], "Adversarial"]))
        assert row[7].startswith(shown(means[row[0], "all five sets"]))
    order = [row[0].partition(":")[0] for row in rows]
    lean = {row["judge"]: row["first_shown"]["value"] for row in found.result["pooled"]}
    pooled = table_of(html, "pooled")[1:]
    assert {row[0]: number(row[1]) for row in pooled} == {j: pytest.approx(100 * v, abs=0.051) for j, v in lean.items()}
    assert len(list(dict.fromkeys(order))) == 3 + 3  # models stand together, the three rules last
    assert [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name] == list(dict.fromkeys(order))
    assert order[-1].startswith("rule/")
    text = reader(html).text
    best = max(e["value"] for (judge, name), e in means.items() if name == "all five sets" and "rule/" not in judge)
    assert f"is right in {100 * best:.1f} %" in text[: text.index("Know this")]
    for claim in found.result["claims"]:
        holds = sum(row["verdict"] == "holds" for row in claim["rows"])
        assert not holds or f"holds for {holds} of {len(claim['rows'])} model" in text
    assert len(table_of(html, "claims")) == 1 + sum(len(claim["rows"]) for claim in found.result["claims"])


@real
def test_the_default_parser_says_what_it_reads_otherwise(tmp_path: Path) -> None:
    found = recorded(tmp_path, ("ChatGPT",), ("Swap_CoT", "Rating"), sets=["Natural", "Manual"])
    html = page.page(found.result)
    changes = found.result["parser_changes"]
    head, *rows = table_of(html, "parsers")
    assert sum(int(row[1]) for row in rows) == len(changes) and len(changes) > 30
    kinds = {f"{c['published']} → {c['here']}" for c in changes}
    assert set(head[3:]) == kinds
    inside = html[html.index('<section id="parsers"') :]
    assert inside[: inside.index("</section>")].count('<div class="raw">') == 30


@real
def test_judges_that_are_contestants_have_people_and_peers() -> None:
    prd = ROOT.parent / "prd"
    if not prd.is_dir():
        pytest.skip("the PRD data are not here")
    found = evaluate("prd", data=prd, resamples=100)
    html = page.page(found.result)
    assert {"people", "peers"} <= set(ids(html)) and "claims" not in ids(html)
    peers = found.result["peers"][0]
    head, *rows = table_of(html, "peers")
    authors = [text.split(" n ")[0] for text in head[1:]]
    assert [row[0] for row in rows] == [*peers["win_rates"], "people"]
    for row in rows:
        held = peers["people"] if row[0] == "people" else peers["win_rates"][row[0]]
        assert [shown(held[author]) in text for author, text in zip(authors, row[1:], strict=True)] == [True] * 5
    weights = {row[0]: float(row[2]) for row in table_of(html, "peers", 1)[1:]}
    assert weights == pytest.approx(peers["peer_rank"]["weights"], abs=5e-4)
    text = reader(html).text
    people = next(row for row in found.result["people"] if row["set"] == "vicuna80")
    assert f"ceiling, % {shown(people['ceiling'])}" in text and "may stand in" in text
    head = table_of(html, "set-0")[0]
    assert any(text.startswith("same verdict as people") for text in head)
    data = embedded(instances.page(found, "vicuna80"))
    assert data["people"] == ["human/1", "human/2", "human/3"] and len(data["pairs"]) == 800
    assert {vote for pair in data["pairs"] for vote in pair["votes"]} == {1, 0, -1, None}
