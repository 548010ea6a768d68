"""The page in a real browser: it asks nothing of the network, runs nothing from outside, and fits a telephone."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for report_results.py

from report_results import full_results, inferred_results, large_results

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
    results = {**full_results(confounded=True), **inferred_results()}
    return write_report(results, tmp_path_factory.mktemp("report"))


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
    page.locator("#arms-table").get_by_role("button", name="arm", exact=True).click()
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


@pytest.mark.parametrize("width", [320, 390, 900, 1440])
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
    assert printed.locator("details:not([open]):not(.which)").count() == 0


def test_it_reads_whole_without_script(visit):
    page = visit(java_script_enabled=False)
    assert page.locator("h1").is_visible() and page.get_by_text("Confounds: prompts.test").is_visible()
    assert page.locator("#arms-table tr.seed").first.is_visible() and page.locator("form.filters:visible").count() == 0


SHOWN = """() => [...document.querySelectorAll('#examples .example')].slice(0, 2).map(e =>
    [...e.querySelectorAll('.answer h4')].map(h => [...h.children].filter(c => c.checkVisibility())
        .map(c => c.textContent).join(' ')))"""


def test_blind_examples_hide_arms_and_scores_until_they_are_revealed(visit):
    page = visit()
    before = page.evaluate(SHOWN)
    assert "sft gold 0.000" in before[1] and not page.locator(".which:visible").count()
    texts = page.locator("#examples .example").nth(0).locator(".text")
    order = texts.all_text_contents()
    page.get_by_label("blind", exact=True).check()
    assert page.evaluate(SHOWN) == [list("ABCDEFGH")] * 2
    mixed = texts.all_text_contents()
    assert mixed != order and sorted(mixed) == sorted(order)
    key = page.locator("#examples .which").nth(1)
    assert key.is_visible() and not key.locator("p").is_visible()
    key.locator("summary").click()
    assert "sft, gold 0.000" in key.locator("p").inner_text()
    page.get_by_label("blind", exact=True).uncheck()
    assert page.evaluate(SHOWN) == before and texts.all_text_contents() == order


def test_a_page_that_was_written_blind_is_so_without_script_too(browser, tmp_path):
    file = write_report(full_results(), tmp_path, blind=True)
    page = browser.new_page(java_script_enabled=False)
    page.goto(file.as_uri())
    assert not page.locator("#examples .name:visible, #examples .score:visible").count()
    assert page.locator("#examples .letter:visible").count() == 8 * 4
    page.locator("#examples .which summary").first.click()
    assert "best_of_n, gold 1.000" in page.locator("#examples .which p").first.inner_text()
    page.close()


def test_links_lead_to_their_sections(visit):
    page = visit()
    targets = page.locator("nav.contents a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert len(targets) > 15 and all(page.locator(f"section{target}").count() == 1 for target in targets)


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 900, 1440])
def test_fifty_arms_on_ten_thousand_prompts_fit_a_page_that_opens_at_once(browser, tmp_path, width):
    file = write_report(large_results(), tmp_path)
    assert file.stat().st_size < 5_000_000
    session = browser.new_browser_cdp_session()

    def used() -> float:
        """CPU seconds of all processes of the browser, which do not depend on what else the machine does."""
        return sum(p["cpuTime"] for p in session.send("SystemInfo.getProcessInfo")["processInfo"])

    before = used()
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(file.as_uri())
    page.evaluate("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
    assert used() - before < 2
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("#arms-table tbody").count() == 100
    assert page.locator("#pairs table tbody:visible").count() == 50, "the second decoding is folded away"
    assert page.locator("#learning svg:visible").count() == 0
    page.close()


def test_print_opens_what_is_folded_and_drops_what_cannot_be_clicked(visit):
    page = visit()
    page.emulate_media(media="print")
    assert page.locator("nav.contents:visible, form.filters:visible").count() == 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#manifest table").is_visible()
    assert len(page.pdf()) > 20_000
