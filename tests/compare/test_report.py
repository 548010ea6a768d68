"""The page: first what matters, nothing left out, nothing shown empty, nothing from outside believed."""

from __future__ import annotations

import copy
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for report_results.py

from report_results import ARMS, HOSTILE_ARM, HOSTILE_TEXTS, full_results, inferred_results, large_results

from pippin.compare import report, wording
from pippin.compare.headline import headline
from pippin.compare.svg import Axis
from pippin.compare.tables import arm_rows, verdict

VOID = {"meta", "link", "wbr", "input", "br", "img"}
TEMPLATES = Path(report.__file__).with_name("templates")


class Reader(HTMLParser):
    """Checks nesting; keeps elements with their attributes and the text that a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def results():
    return full_results()


@pytest.fixture(scope="module")
def html(results):
    return report.page(results)


@pytest.fixture(scope="module")
def read(html):
    return Reader(html)


SECTIONS = (
    "differences", "arms", "claims", "equivalence", "effects", "looks", "variance", "confounds", "not-declared",
    "settings", "ledger", "frozen", "estimate", "examples", "manifest", "reproduce", "pairs", "kl", "length",
    "overoptimisation", "learning", "checks", "seconds",
)  # fmt: skip


def test_the_answer_comes_first_then_figure_table_books_and_the_evidence_in_order():
    html = report.page({**full_results(confounded=True), **inferred_results()})
    marks = ["<h1", "Confounds: prompts.test", *(f'<section id="{s}"' for s in SECTIONS)]
    places = [html.index(mark) for mark in marks]
    assert places == sorted(places)
    listed = re.findall(r'<a href="#([a-z-]+)">', html[html.index("<nav") : html.index("</nav>")])
    assert tuple(listed) == SECTIONS


def test_confounds_are_named_by_field_with_arms_and_values():
    line = (
        "Confounds: prompts.test (base, sft, sft_filtered, best_of_n, expert_iteration, ppo, ppo_weak_reward_model: "
        f"held.jsonl 4f1c; {HOSTILE_ARM}: other<b>.jsonl 99aa), max_length (sft: 256; ppo: 512)"
    )
    assert wording.confound_line(full_results(confounded=True)) == line
    shown = Reader(report.page(full_results(confounded=True))).text
    assert "Confounds: prompts.test, max_length" in shown and "held.jsonl 4f1c : base, sft, sft_filtered" in shown
    assert "Arms that answer other prompts cannot be paired." in shown
    noted = Reader(report.page({**full_results(), **inferred_results()})).text
    assert "Confounds: none" in noted and "12% of ppo<b> (seed 0, greedy)" in noted
    assert wording.confound_line({}) == "Confounds: none"


def test_every_arm_seed_and_decoding_stands_in_the_main_table(results, html):
    table = html[html.index('<table id="arms-table"') : html.index("</table>", html.index('<table id="arms-table"'))]
    rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)[1:]
    assert len(rows) == len(ARMS) * 2 * (1 + 2)
    shown = [Reader(row).text for row in rows]
    for row in results["arms"]:
        value = wording.estimate(row["gold_mean"], row["gold_low"], row["gold_high"])
        assert any(value in line and line.startswith(f"seed {row['seed']}") for line in shown), value
    for row in results["pooled"]:
        value = wording.estimate(row["gold_mean"], row["gold_low"], row["gold_high"])
        assert any(value in line and row["decoding"] in line for line in shown), value


def test_each_drawing_is_well_formed_and_described(html):
    drawings = re.findall(r"<svg class=\"plot.*?</svg>", html, re.DOTALL)
    assert len(drawings) >= 12
    ids = []
    for drawing in drawings:
        root = ET.fromstring(drawing)
        assert root[0].tag == "title" and root[0].text and root[1].tag == "desc" and root[1].text
        assert root.get("aria-labelledby") == f"{root[0].get('id')} {root[1].get('id')}"
        ids += [root[0].get("id"), root[1].get("id")]
        for element in root.iter():
            numbers = " ".join(v for k, v in element.attrib.items() if k in ("x", "y", "x1", "y2", "points", "width"))
            assert "nan" not in numbers and "inf" not in numbers
            assert not element.attrib.keys() & {"onload", "href", "style"}
    assert len(ids) == len(set(ids))


def test_the_forest_draws_each_pooled_interval_where_its_numbers_are(results, html):
    drawing = ET.fromstring(re.search(r'<svg class="plot wide".*?</svg>', html, re.DOTALL)[0])
    diamonds = list(drawing.iter("polygon"))
    assert len(diamonds) == 2 * (len(ARMS) - 1)
    ticks = {e.text.replace("\u2212", "-"): float(e.get("x")) for e in drawing.iter("text") if e.get("class") == "tick"}
    scale = (ticks["0.2"] - ticks["0.0"]) / 0.2
    expected = sorted(
        (r["delta_low"] * scale + ticks["0.0"], r["delta_high"] * scale + ticks["0.0"])
        for r in results["pooled"]
        if r["name"] != "sft"
    )
    drawn = sorted(tuple(float(corner.split(",")[0]) for corner in d.get("points").split())[0:3:2] for d in diamonds)
    for (low, high), (left, right) in zip(expected, drawn, strict=True):
        assert (left, right) == pytest.approx((low, high), abs=0.3)


def test_nothing_is_loaded_and_the_policy_forbids_it(read):
    policy = next(a["content"] for t, a in read.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "http" not in policy
    for tag, attributes in read.elements:
        assert tag not in {"img", "iframe", "object", "embed", "base", "a"} or attributes["href"].startswith("#")
        for name in ("src", "srcset", "href", "action", "formaction", "poster", "background"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("#", "data:image/svg+xml,")), (tag, name, value)
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert sum(tag == "script" for tag, _ in read.elements) == 1
    style = (TEMPLATES / "report.css").read_text()
    assert "url(" not in style and "@import" not in style


def test_hostile_text_is_shown_and_never_markup(html, read):
    for text in (HOSTILE_ARM, "<script>alert('p')</script>", HOSTILE_TEXTS[0], "<iframe srcdoc=", "{{ 7 * 7 }}"):
        assert text in read.text
        assert text not in html or "<" not in text
    assert "b<U+202E>gnp" in read.text and "a\u2407" in read.text and "NUL \u2400" in read.text
    assert "surrogate \ufffd" in read.text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html)


def poison(value, text: str):
    """``value`` with every string in it, names included where they are not keys of the format, made hostile."""
    if isinstance(value, dict):
        return {k: poison(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [poison(v, text) for v in value]
    return value + text if isinstance(value, str) else value


def test_any_string_of_the_results_may_be_hostile(results):
    mark = "\ud800\u202e\x00</title></script></style></svg>]]>--><script>alert(1)</script>'\"`{{x}}|\n"
    poisoned = poison({k: v for k, v in results.items() if k not in ("baseline", "metric")}, mark)
    read = Reader(report.page({**poisoned, "metric": {"name": "gold"}, "baseline": "sft"}))
    assert sum(tag == "script" for tag, _ in read.elements) == 1
    report.page(poisoned).encode()
    text = report.markdown(poisoned)
    text.encode()
    outside = re.sub(r"(`{3,})[^`]*\n.*?\n\1", "", text, flags=re.DOTALL)
    assert "<script" not in outside and "</" not in outside


def test_of_many_arms_the_page_counts_and_folds():
    results = large_results(arms=30, seeds=2)
    html = report.page(results)
    read = Reader(html)
    assert headline(results) in read.text and len(headline(results)) < 250
    assert re.search(r"\d+ of 29 arms are better than method_00/data_a, \d+ worse", headline(results))
    assert 'class="matrix"' not in html and html.count('<section id="pairs"') == 1
    assert read.text.count("Every training seed by itself") == 1 and "and 23 more" in read.text
    assert len(html) < 2_000_000
    drawing = ET.fromstring(re.search(r'<svg class="plot wide".*?</svg>', html, re.DOTALL)[0])
    assert len(list(drawing.iter("polygon"))) == 29 and float(drawing.get("height")) < 29 * 22 + 100


def test_examples_stay_short_where_there_are_many():
    text = "x" * 4000
    many = {"prompt": "p", "arms": {f"arm {i}": {"text": text, "score": None} for i in range(200)}}
    shown = report.page({"arms": [], "decision": "d", "examples": [many] * 8})
    assert len(shown) < 2_500_000 and "more characters)" in shown


@pytest.mark.parametrize("key", list(full_results()))
def test_without_a_part_the_page_still_stands(results, key):
    less = {k: v for k, v in results.items() if k != key}
    read = Reader(report.page(less))
    assert report.markdown(less) and report.summary_rows(less)
    sections = {"curves": "overoptimisation", "learning": "learning", "checks": "checks", "pairs": "pairs",
                "not_declared": "not-declared", "examples": "examples", "reproduce": "reproduce", "seconds": "seconds",
                "arms": "ledger"}  # fmt: skip
    shown = {a.get("id") for t, a in read.elements if t == "section"}
    assert sections.get(key) not in shown
    empty = {**results, key: type(results[key])()}
    assert {a.get("id") for t, a in Reader(report.page(empty)).elements if t == "section"} == shown


def test_two_files_and_one_judge_make_a_page_too():
    row = {"win_rate_mean": 0.61, "win_rate_low": 0.52, "win_rate_high": 0.7, "delta_vs_a": 0.22, "delta_low": 0.04,
           "delta_high": 0.4, "n": 90, "missing": 0, "decoding": "", "seed": None, "name": "b"}  # fmt: skip
    read = Reader(report.page({
        "question": "", "decision": "b is better than a by 0.220 [0.040, 0.400].", "baseline": "a",
        "metric": {"name": "win_rate", "higher_is_better": True, "unit": "share"}, "arms": [row], "confounds": [],
    }))  # fmt: skip
    assert "+0.220 [+0.040, +0.400], n 90" in read.text and "Confounds: none" in read.text
    assert {a.get("id") for t, a in read.elements if t == "section"} == {"decision", "differences", "arms"}


def test_missing_numbers_are_a_dash_and_never_drawn(results):
    holed = copy.deepcopy(results)
    for row in (*holed["arms"], *holed["pooled"]):
        if row["name"] == "ppo":
            for key in [k for k in row if k.startswith(("gold", "delta", "kl", "p"))]:
                row[key] = None
            row["mean_length"] = float("nan")
    page = report.page(holed)
    assert "nan" not in page.lower() and "None" not in Reader(page).text
    headers, rows = report.summary_rows(holed)
    ppo = next(r for r in rows if r[0] == "ppo")
    assert ppo[headers.index("gold")] == "-" and ppo[headers.index("length (tokens)")] == "-"


def test_equal_results_give_equal_bytes_whatever_the_order_of_keys(results, tmp_path):
    again = json.loads(json.dumps(results, sort_keys=True))
    path = report.write_report(results, tmp_path / "a")
    other = report.write_report(again, tmp_path / "b")
    assert path == tmp_path / "a" / "report.html"
    assert path.read_bytes() == other.read_bytes()
    assert (tmp_path / "a/report.md").read_bytes() == (tmp_path / "b/report.md").read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["figures", "report.html", "report.md", "tables"]
    before = path.read_bytes()
    report.write_report(results, tmp_path / "a")
    assert path.read_bytes() == before


def test_numbers_of_numpy_and_tuples_read_as_they_will_from_the_file(results, tmp_path):
    odd = copy.deepcopy(results)
    for row in (*odd["arms"], *odd["pooled"]):
        row["n"], row["gold_mean"] = np.int64(row["n"]), np.float64(row["gold_mean"])
    odd["reproduce"]["tuple"] = (1, 2)
    page = report.write_report(odd, tmp_path / "a").read_bytes()
    assert page == report.write_report(results, tmp_path / "b").read_bytes()


def test_markdown_tables_are_whole(results):
    lines = report.markdown(results).splitlines()
    assert lines[0] == f"**{headline(results)}**" and lines[2] == "Confounds: none"
    assert results["decision"] in lines
    tables = [i for i, line in enumerate(lines) if re.fullmatch(r"\|( -+:? \|)+", line)]
    assert len(tables) == 6
    for i in tables:
        width = lines[i].count("|")
        j = i - 1
        while lines[j].startswith("|"):
            assert lines[j].count("|") == width, lines[j]
            j += 1
    assert any(line.startswith("| sft_filtered | greedy | 0.590 [0.559, 0.620] | +0.030") for line in lines)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("![x](http://a/b.png)", r"\![x]\(http://a/b.png)"),
        ("<img src=x>", "&lt;img src=x>"),
        ("a|b", "a&#124;b"),
        ("*bold* `code` _em_ snake_case", r"\*bold\* \`code\` \_em\_ snake_case"),
        ("[+0.113, +0.166] < 0.001", "[+0.113, +0.166] < 0.001"),
        ("# heading\n- item", r"\# heading - item"),
        ("&lt; &#60;", "&amp;lt; &amp;#60;"),
    ],
)
def test_markdown_escapes_what_would_be_markup_and_no_more(text, escaped):
    assert report.escape_markdown(text) == escaped


def test_a_fence_is_longer_than_the_backticks_in_it():
    assert report.fence("a ```` b", "sh") == "`````sh\na ```` b\n`````"


def test_the_terminal_table_has_one_row_per_arm_and_decoding(results):
    headers, rows = report.summary_rows(results)
    assert headers == [
        "arm", "decoding", "gold", "difference from sft", "p (Holm)", "difference from sft_greedy", "KL (nats)",
        "length (tokens)", "no end (%)", "n",
    ]  # fmt: skip
    assert len(rows) == 16 and all(len(row) == len(headers) for row in rows)
    best = next(r for r in rows if r[:2] == ["best_of_n", "temperature 1"])
    pooled = next(r for r in results["pooled"] if r["name"] == "best_of_n" and r["decoding"] == "temperature 1")
    assert best[2] == f"{pooled['gold_mean']:.3f} [{pooled['gold_low']:.3f}, {pooled['gold_high']:.3f}]"
    assert best[3] == f"{pooled['delta_vs_sft']:+.3f} [{pooled['delta_low']:+.3f}, {pooled['delta_high']:+.3f}]"
    assert best[4] == "< 0.001" and best[6] == "1.84 upper bound" and best[9] == "640 2 seeds"
    assert next(r for r in rows if r[0] == "sft")[3] == "baseline"


def test_a_single_seed_is_its_own_pool(results):
    single = {**results, "arms": [r for r in results["arms"] if r["seed"] == 0]}
    assert all(not a.seeds and a.head is not None and "kl" in a.head for a in arm_rows(single))
    assert report.page(single).count('class="seed"') == 0


@pytest.mark.parametrize(
    ("low", "high", "p", "up", "said"),
    [
        (0.01, 0.2, 0.01, True, "better"), (0.01, 0.2, 0.01, False, "worse"), (0.01, 0.2, 0.06, True, "unclear"),
        (-0.01, 0.2, 0.01, True, "unclear"), (-0.3, -0.1, None, True, "worse"), (None, None, None, True, "unclear"),
        (0.0, 0.2, 0.01, True, "unclear"),
    ],
)  # fmt: skip
def test_a_difference_is_clear_only_where_interval_and_corrected_p_agree(low, high, p, up, said):
    assert verdict(low, high, p, up) == said


def test_numbers_read_as_the_field_writes_them():
    assert wording.number(0.12345) == "0.123" and wording.number(-0.5, signed=True) == "\u22120.500"
    assert wording.number(-0.0001, signed=True) == "0.000" and wording.number(None) == "\u2013"
    assert wording.count(1234567) == "1,234,567" and wording.p_value(0.00099) == "< 0.001"
    assert wording.p_value(0.05) == "0.050" and wording.interval(1, None) == ""
    assert wording.span([3.2, 3.0, None], 1) == "3.0 to 3.2" and wording.span([], 1) == "\u2013"
    assert wording.ledger_cell("peak_memory", 412_000_000) == "412" and wording.ledger_unit("peak_memory") == "MB"
    assert wording.setting(5e-5) == "5e-05" and wording.setting(0.123456789) == "0.123456789"


@pytest.mark.parametrize("warp", ["linear", "sqrt", "log"])
def test_axes_run_from_end_to_end_and_tick_inside(warp):
    axis = Axis(1, 300, 50, 450, warp)
    assert axis.at(1) == pytest.approx(50) and axis.at(300) == pytest.approx(450)
    ticks = axis.ticks(5)
    assert 3 <= len(ticks) <= 10 and all(1 <= v <= 300 for v, _ in ticks)
    assert all(float(words.replace(",", "")) == v for v, words in ticks)


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` (WCAG 2.2, section 1.4.3)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(f * p for f, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark", "print"])
def test_contrast_is_enough_for_text_and_marks(theme):
    block = re.findall(r":root \{(.*?)\}", (TEMPLATES / "report.css").read_text(), re.DOTALL)[theme]
    colour = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))

    def contrast(a: str, b: str) -> float:
        high, low = sorted((luminance(colour[a]), luminance(colour[b])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    grounds = ["page", "card"]
    text = [(t, g) for t in ("text", "soft", "better", "worse") for g in grounds]
    text += [("better", "better-tint"), ("worse", "worse-tint"), ("text", "better-tint"), ("text", "worse-tint")]
    text += [("good", "good-tint"), ("warn", "warn-tint"), ("text", "warn-tint")]
    assert {pair: contrast(*pair) for pair in text if contrast(*pair) < 4.5} == {}
    marks = [(f"ink-{i}", g) for i in range(8) for g in grounds] + [("unclear", "page")]
    assert {pair: contrast(*pair) for pair in marks if contrast(*pair) < 3} == {}
