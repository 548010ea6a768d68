"""The page in a real browser: it asks nothing of the network, runs nothing from outside, and fits a telephone."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for report_results.py

from report_results import full_results

from pippin.compare.report import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("PIPPIN_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
if not Path(CHROMIUM).exists():
    pytest.skip("no chromium here; PIPPIN_CHROMIUM names one", allow_module_level=True)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_report(full_results(confounded=True), tmp_path_factory.mktemp("report"))


@pytest.fixture
def visit(browser, report):
    """Opens the page; afterwards it must have stayed silent and asked for nothing but itself."""
    opened = []

    def open_page(**options):
        page = browser.new_page(**options)
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri())
        opened.append((page, said, asked))
        return page

    yield open_page
    for page, said, asked in opened:
        assert said == []
        assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
        page.close()


def column(page, index: int) -> list[str]:
    """The texts of a column in the leading rows of the main table that are shown."""
    return page.evaluate(
        """i => [...document.getElementById('arms-table').tBodies].filter(b => !b.hidden)
               .map(b => b.rows[0].cells[i].querySelector('.value')?.textContent ?? b.rows[0].cells[i].textContent)""",
        index,
    )


def numbers(texts: list[str]) -> list[float]:
    return [float(t.replace("\u2212", "-")) for t in texts if t not in ("\u2013", "baseline")]


def test_columns_sort_both_ways_and_seeds_stay_with_their_arm(visit):
    page = visit()
    before = numbers(column(page, 2))
    assert before != sorted(before)
    page.get_by_role("button", name="gold", exact=True).click()
    assert numbers(column(page, 2)) == sorted(before, reverse=True)
    assert page.locator("#arms-table th[aria-sort=descending]").count() == 1
    page.get_by_role("button", name="gold", exact=True).press("Enter")
    assert numbers(column(page, 2)) == sorted(before)
    page.get_by_role("button", name="KL (nats)").click()
    kl = column(page, 6)
    assert kl[-1] == "\u2013" and kl[0] != "\u2013", "missing values come last"
    assert page.locator("#arms-table tbody").count() == 16
    assert page.evaluate("[...document.getElementById('arms-table').tBodies].every(b => b.rows.length === 3)")
    page.get_by_role("button", name="arm", exact=True).click()
    names = column(page, 0)
    assert names == sorted(names, reverse=True)


def test_filters_hide_decodings_and_seeds(visit):
    page = visit()
    assert len(column(page, 1)) == 16
    page.get_by_label("greedy", exact=True).check()
    assert column(page, 1) == ["greedy"] * 8
    seeds = page.locator("#arms-table tbody:not([hidden]) tr.seed")
    assert seeds.first.is_visible()
    page.get_by_label("show seeds").uncheck()
    assert not seeds.first.is_visible()
    page.get_by_label("all", exact=True).check()
    assert len(column(page, 1)) == 16


@pytest.mark.parametrize("width", [320, 380, 720, 1280])
def test_no_width_makes_the_page_scroll_sideways(visit, width):
    page = visit(viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    forests = page.locator("svg.plot.narrow, svg.plot.wide")
    shown = forests.evaluate_all("all => all.filter(e => e.checkVisibility()).length")
    assert shown == 1
    letters = page.evaluate(
        """() => Math.min(...[...document.querySelectorAll('svg.plot text')].filter(e => e.checkVisibility())
                 .map(e => parseFloat(getComputedStyle(e).fontSize) * e.ownerSVGElement.getScreenCTM().a))"""
    )
    assert letters >= 8, "the smallest letters in a figure, in pixels"


def test_words_in_figures_stay_inside_them(visit):
    page = visit(viewport={"width": 1280, "height": 800})
    outside = page.evaluate(
        """() => [...document.querySelectorAll('svg.plot text')].filter(e => e.checkVisibility()).filter(e => {
             const word = e.getBoundingClientRect(), plot = e.ownerSVGElement.getBoundingClientRect();
             return word.left < plot.left - 2 || word.right > plot.right + 2 || word.bottom > plot.bottom + 2;
           }).map(e => e.textContent)"""
    )
    assert outside == []


def test_it_follows_the_readers_colours(visit):
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = (visit(color_scheme=scheme).evaluate(ground) for scheme in ("light", "dark"))
    assert light == "rgb(251, 250, 247)" and dark == "rgb(21, 24, 27)"
    printed = visit(color_scheme="dark")
    printed.emulate_media(media="print")
    assert printed.evaluate(ground) == "rgb(255, 255, 255)"
    printed.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert printed.locator("details:not([open])").count() == 0


def test_it_reads_whole_without_script(visit):
    page = visit(java_script_enabled=False)
    assert page.locator("h1").is_visible() and page.get_by_text("Confounds: prompts.test").is_visible()
    assert page.locator("#arms-table tr.seed").first.is_visible() and not page.locator("form.filters").is_visible()
