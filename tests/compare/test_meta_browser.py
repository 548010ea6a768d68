"""The pages of a meta-evaluation in a real browser: sorted, filtered and browsed by clicks, silent, without network."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the neighbours below

from test_browser import CHROMIUM, browser, sync_api  # noqa: F401  (a fixture)
from test_meta_page import build, hostile, planted

from pippin.compare.meta import page as pages

assert CHROMIUM


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The pages of planted judges, and of the same under hostile names and texts."""
    base = tmp_path_factory.mktemp("meta")
    found = planted(build(base / "bench", 40), more=4)
    pages.write(found, base / "clean")
    pages.write(hostile(found), base / "hostile")
    return base


@pytest.fixture
def visit(browser, folder):  # noqa: F811
    """Opens a page; afterwards it must have stayed silent and asked for nothing but itself."""
    opened = []

    def open_page(path, **options):
        page = browser.new_page(**options)
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        target = next((folder / path).parent.glob(Path(path).name)).as_uri()
        page.goto(target)
        opened.append((page, said, asked, target))
        return page

    yield open_page
    for page, said, asked, target in opened:
        assert said == []
        assert {url.partition("#")[0] for url in asked if not url.startswith("data:")} == {target}
        page.close()


def column(page, section, index):
    """The texts of a column in the rows of a section's first table that are shown."""
    return page.evaluate(
        """([id, i]) => [...document.querySelector(`#${id} table`).tBodies]
               .filter(b => b.checkVisibility() && !b.classList.contains('heading'))
               .map(b => b.rows[0].cells[i].querySelector('.value')?.textContent ?? b.rows[0].cells[i].textContent)""",
        [section, index],
    )


def test_tables_sort_by_every_column_and_lose_their_headings(visit):
    page = visit("clean/report.html")
    before = [float(t) for t in column(page, "by-set", 1)]
    assert len(before) == 10 and before != sorted(before)
    assert page.locator("#by-set tbody.heading").first.is_visible()
    page.locator("#by-set th button", has_text="Natural").click()
    assert [float(t) for t in column(page, "by-set", 1)] == sorted(before, reverse=True)
    assert not page.locator("#by-set tbody.heading").first.is_visible()
    page.locator("#by-set th button", has_text="Natural").click()
    assert [float(t) for t in column(page, "by-set", 1)] == sorted(before)
    page.locator("#by-set th button", has_text="judge").click()
    names = column(page, "by-set", 0)
    assert names == sorted(names, reverse=True)


def test_one_filter_narrows_all_tables(visit):
    page = visit("clean/report.html")
    boxes = page.locator("form.find:visible input")
    assert boxes.count() >= 5
    boxes.first.fill("lo RULE")
    assert column(page, "by-set", 0) == column(page, "set-1", 0) == ["rule/longer"]
    assert boxes.nth(2).input_value() == "lo RULE"
    page.locator("#by-set th button", has_text="Natural").click()
    assert column(page, "by-set", 0) == ["rule/longer"]
    boxes.nth(2).press("Enter")
    boxes.nth(2).fill("")
    assert len(column(page, "by-set", 0)) == 10


@pytest.mark.parametrize("width", [320, 400, 1280])
@pytest.mark.parametrize("path", ["clean/report.html", "hostile/report.html", "hostile/instances/Natural*.html"])
def test_no_width_makes_a_page_scroll_sideways(visit, path, width):
    page = visit(path, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_words_in_figures_stay_inside_them(visit):
    page = visit("clean/report.html", viewport={"width": 1280, "height": 800})
    outside = page.evaluate(
        """() => [...document.querySelectorAll('svg.plot text')].filter(e => e.checkVisibility()).filter(e => {
             const word = e.getBoundingClientRect(), plot = e.ownerSVGElement.getBoundingClientRect();
             return word.left < plot.left - 2 || word.right > plot.right + 2 || word.bottom > plot.bottom + 2;
           }).map(e => e.textContent)"""
    )
    assert outside == []


def test_it_follows_the_readers_colours_and_prints(visit):
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = (visit("clean/report.html", color_scheme=scheme).evaluate(ground) for scheme in ("light", "dark"))
    assert light == "rgb(251, 250, 247)" and dark == "rgb(21, 24, 27)"
    page = visit("clean/report.html", color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"


def test_a_pair_is_chosen_by_search_judge_and_click(visit):
    page = visit("clean/instances/Natural.html")
    assert page.locator("#pairs button").count() == 40 and page.locator("#pair h2").inner_text() == "Pair 0"
    page.locator("#pairs button").nth(7).click()
    assert page.locator("#pair h2").inner_text() == "Pair 7" and page.url.endswith("#7")
    assert page.locator(".output.gold").count() == 1 and "GOOD 7" in page.locator(".output.gold").inner_text()
    page.fill("#search", "good 31")
    assert page.locator("#pairs button").count() == 1 and page.locator("#pair h2").inner_text() == "Pair 31"
    page.fill("#search", "")
    page.select_option("#judge", label="silent:vanilla")
    page.select_option("#state", "missing")
    sync_api.expect(page.locator("details.judge[open] .output")).not_to_have_count(0)  # filled when it has opened
    rows = [int(t.split()[0]) for t in page.locator("#pairs button").all_inner_texts()]
    assert rows == [1, *range(10, 20)]
    assert page.locator("details.judge[open] b").inner_text() == "silent:vanilla"
    assert page.locator("details.judge[open]").get_by_text("said unparsed").count() == 2
    page.select_option("#judge", label="rule/longer")
    page.select_option("#state", "both")
    for button in page.locator("#pairs button").all()[:3]:
        button.click()
        assert len(page.locator(".output.gold .text").inner_text()) < len(
            page.locator("#pair > .outputs .output:not(.gold) .text").inner_text()
        )
    page.select_option("#state", "missing")
    assert page.locator("#pair").inner_text() == "No pair fits." and "0 of 40" in page.locator("#count").inner_text()


def test_a_link_opens_its_pair(visit):
    page = visit("clean/instances/Natural.html")
    page.goto(page.url + "#12")
    sync_api.expect(page.locator("#pair h2")).to_have_text("Pair 12")
    page.locator("details.judge summary").first.click()
    sync_api.expect(page.locator("details.judge[open] .output")).to_have_count(2)  # filled when it has opened


def test_hostile_text_is_shown_and_does_nothing(visit):
    page = visit("hostile/instances/Natural*.html")
    for n in range(10):
        page.locator("#pairs button").nth(n).click()
        page.locator("details.judge summary").first.click()
        assert page.locator("#pair img, #pair script, #pair a").count() == 0
    page.locator("#pairs button").nth(0).click()
    assert "<script>alert(1)</script>" in page.locator(".output .text").first.inner_text()
    assert "more characters" in page.locator(".output .text").first.inner_text()
    report = visit("hostile/report.html")
    assert report.locator("main img, main script").count() == 0
    assert report.get_by_text("alert(1)").count() > 0


def test_the_report_reads_whole_without_script(visit):
    page = visit("clean/report.html", java_script_enabled=False)
    assert page.locator("h1").is_visible() and page.locator("#set-0 table").is_visible()
    assert page.locator("form.find:visible").count() == 0
