"""The page for people in a real browser: clicks and keys, progress that stays, and a file that ``compare`` reads."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from pippin.compare import labels
from pippin.compare.label_page import write_page
from pippin.compare.sides import read_file
from pippin.compare.two import compare_two, pairs
from pippin.core.types import Prompt, Response, assistant, user
from pippin.data.files import write_responses
from pippin.data.labels import read_labels

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("PIPPIN_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
if not Path(CHROMIUM).exists():
    pytest.skip("no chromium here; PIPPIN_CHROMIUM names one", allow_module_level=True)

HOSTILE = '=1+1,"quoted"\n<img src=x onerror=alert(1)></script><script>alert(2)</script>\x07\u202e'


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def drawn(tmp_path):
    """Twelve prompts with hostile answers, drawn and written as a page; the answers of V2 say two."""
    for name, text in (("a.jsonl", f"{HOSTILE} one"), ("b.jsonl", f"{HOSTILE} two")):
        prompts = [Prompt(user(f"<b>question</b> {k}")) for k in range(12)]
        write_responses(tmp_path / name, [(p, Response(p.id, assistant(text), f"model-{name}")) for p in prompts])
    sides = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    rows = labels.rows(labels.draw(pairs(*map(read_file, sides)), [], 12, annotator="ann"))
    write_page(tmp_path / "labels.html", rows, annotator="ann")
    return tmp_path, sides, rows


def visit(context, path: Path):
    """The page opened from the disk, and what it said or asked for beside itself."""
    page = context.new_page()
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: (heard.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on(
        "request",
        lambda request: heard.append(request.url) if not request.url.startswith(("data:", "file:", "blob:")) else None,
    )
    page.goto(path.as_uri())
    return page, heard


def save(page, path: Path) -> Path:
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download labels").click()
    assert waiting.value.suggested_filename == "labels.csv"
    waiting.value.save_as(path)
    return path


def test_clicks_and_keys_become_a_file_that_compare_reads(browser, drawn):
    folder, sides, rows = drawn
    context = browser.new_context(accept_downloads=True)
    page, heard = visit(context, folder / "labels.html")
    assert page.locator("#progress").inner_text() == "pair 1 of 12, 0 labelled"
    shown = page.locator("#first").text_content()
    assert shown == rows[0]["text_first"] and "<img src=x" in shown and "\u2407<U+202E>" in shown
    assert "model-" not in page.content()
    for k, row in enumerate(rows):  # V2 is named throughout, by a click or by its key
        second = row["text_second"].endswith("two")
        if k % 2:
            page.get_by_role("button", name="Second" if second else "First").click()
        else:
            page.keyboard.press("2" if second else "1")
    assert page.locator("#note").inner_text() == "All pairs are labelled. Download the labels."
    page.get_by_role("button", name="Back").click()
    assert page.locator("#progress").inner_text() == "pair 11 of 12, 12 labelled"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("b")
    page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="As good").click()
    page.get_by_label("Your name").fill("=bob 1 2")
    path = save(page, folder / "labels.csv")
    assert heard == []
    context.close()
    found = read_labels(path)
    assert found.annotators == ["=bob 1 2"] and found.empty == 0
    assert "'=1+1" in path.read_text(encoding="utf-8") and "\n=" not in path.read_text(encoding="utf-8")
    outcomes = [str(choice.outcome) for choice in found.choices]
    assert (outcomes.count("both_bad"), outcomes.count("tie")) == (1, 1)
    made = compare_two(*sides, judge="rule/first", people=path)
    assert made.people is not None and made.people.labels == 12
    assert made.delta.value == pytest.approx(10 / 12)


def test_the_file_of_the_page_is_that_of_the_command(browser, drawn):
    folder, _, rows = drawn
    context = browser.new_context(accept_downloads=True)
    page, _ = visit(context, folder / "labels.html")
    path = save(page, folder / "page.csv")
    context.close()
    labels.write_labels(folder / "command.csv", rows)
    assert path.read_bytes() == (folder / "command.csv").read_bytes()


def test_progress_stays_when_the_page_is_closed(browser, drawn):
    folder, _, _ = drawn
    context = browser.new_context()
    page, _ = visit(context, folder / "labels.html")
    for sign in "120":
        page.keyboard.press(sign)
    page.close()
    page, heard = visit(context, folder / "labels.html")
    assert page.locator("#progress").inner_text() == "pair 4 of 12, 3 labelled"
    page.keyboard.press("ArrowLeft")
    assert page.locator("button[aria-pressed=true]").inner_text().endswith("As good")
    assert heard == []
    context.close()


def test_a_browser_that_keeps_nothing_says_so_and_works(browser, drawn):
    folder, _, _ = drawn
    context = browser.new_context(accept_downloads=True)
    context.add_init_script("Storage.prototype.setItem = () => { throw new Error('full'); }")
    page, heard = visit(context, folder / "labels.html")
    page.keyboard.press("1")
    assert "download before you close it" in page.locator("#note").inner_text()
    assert len(read_labels(save(page, folder / "one.csv")).choices) == 1
    assert heard == []
    context.close()


@pytest.mark.parametrize("width", [320, 1280])
def test_no_width_makes_it_scroll_sideways(browser, drawn, width):
    folder, _, _ = drawn
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto((folder / "labels.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()


def test_labels_that_others_gave_go_along_unseen(browser, drawn):
    folder, _, rows = drawn
    given = [{**row, "choice": "tie", "annotator": "zoe"} for row in rows[:2]]
    write_page(folder / "labels.html", [*given, *rows[2:]], annotator="ann")
    assert json.loads((folder / "labels.html").read_text().split('id="draw">')[1].split("</script>")[0])["rows"]
    context = browser.new_context(accept_downloads=True)
    page, _ = visit(context, folder / "labels.html")
    assert page.locator("#progress").inner_text() == "pair 1 of 10, 0 labelled"
    page.keyboard.press("1")
    assert read_labels(save(page, folder / "l.csv")).annotators == ["ann", "zoe"]
    context.close()
