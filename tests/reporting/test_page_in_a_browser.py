"""The page in a real browser: what its script does, and what nothing in it can."""

import os
import shutil

import pytest

from example_run import FACTS, HOSTILE, LINES, WORST, entry, write_run
from understudy.reporting.comparison import read_runs, write_comparison
from understudy.reporting.page import write_page
from understudy.reporting.table import MODEL_NAMES

playwright = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        path = driver.chromium.executable_path
        if not os.path.exists(path):
            path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        if path is None:
            pytest.skip("no browser here: `playwright install chromium`, or chromium on the path")
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    return write_page(write_run(tmp_path_factory.mktemp("run")))


@pytest.fixture
def opened(browser, page_file):
    """Opens a page; in the end, nothing but that file may have been asked for, and nothing have gone wrong."""
    contexts, asked, wrong = [], [], []

    def open_page(file=page_file, **settings):
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.goto(file.as_uri())
        return page

    yield open_page
    assert wrong == []
    assert all(url.startswith("file:") and url.endswith(".html") for url in asked) and len(asked) == len(contexts)
    for context in contexts:
        context.close()


def shown(page, table="rows"):
    return [row.locator("td").first.inner_text() for row in page.locator(f"#{table} tbody tr:visible").all()]


def test_hostile_rows_are_text_and_harm_nothing(opened):
    page = opened()
    assert page.evaluate("window.harmed") is None
    assert page.locator("script").count() == 1 and page.locator("img").count() == 0
    cell = page.locator("#rows td.words").nth(2)
    assert cell.evaluate("cell => cell.textContent") == WORST
    assert cell.evaluate("cell => cell.children.length") == 0


def test_nothing_that_gets_into_the_page_can_run(browser, page_file):
    """The second wall: were a text not escaped, the page's policy would still allow its own script alone."""
    page = browser.new_page()
    page.goto(page_file.as_uri())
    refused = []
    page.on("console", lambda message: refused.append(message.text))
    harm = """() => {
        const script = document.createElement("script");
        script.textContent = "window.harmed = 1";
        const image = document.createElement("img");
        image.setAttribute("onerror", "window.harmed = 1");
        image.src = "data:,";
        document.body.append(script, image);
        return new Promise((resolve) => setTimeout(() => resolve(window.harmed), 50));
    }"""
    assert page.evaluate(harm) is None
    assert len(refused) >= 2 and all("Content Security Policy" in one for one in refused)
    page.close()


def test_search_and_choice(opened):
    page = opened()
    assert len(shown(page)) == 3
    page.get_by_label("Search rows").fill("UNSURE")
    assert shown(page) == ["lost and unsure"] and "1 of 3" in page.locator("[data-for=rows] output").inner_text()
    page.get_by_label("Search rows").fill("<script>")  # in the text of one row and an answer of another
    assert len(shown(page)) == 2
    page.get_by_label("Search rows").fill("")
    page.get_by_label("Which rows").select_option("won")
    assert len(shown(page)) == 1
    page.get_by_label("Search rows").fill("no such words")
    assert shown(page) == [] and "0 of 3" in page.locator("[data-for=rows] output").inner_text()


def test_sorting(opened):
    page = opened()
    sure = page.locator("#rows thead th").nth(5)
    sure.get_by_role("button").click()
    assert sure.get_attribute("aria-sort") == "descending"
    assert [text[:12] for text in shown(page)] == ["lost and sur", WORST[:12], "lost and uns"]
    sure.get_by_role("button").click()
    assert sure.get_attribute("aria-sort") == "ascending"
    assert [text[:12] for text in shown(page)] == ["lost and uns", WORST[:12], "lost and sur"]
    page.locator("#rows thead th").first.get_by_role("button").press("Enter")  # words: the alphabet from its beginning
    assert shown(page)[1:] == ["lost and sure", "lost and unsure"]
    assert sure.get_attribute("aria-sort") is None

    difference = page.locator("#classes thead th").nth(2)
    difference.get_by_role("button").click()  # −0.025, −0.033, −0.050: the sign counts
    assert shown(page, "classes") == ["c", "b", HOSTILE]


def test_a_measure_is_chosen_without_the_script(opened):
    for settings in ({}, {"java_script_enabled": False}):
        page = opened(**settings)
        first = page.locator("#classes tbody tr").first.locator("td").nth(3)
        assert first.inner_text() == "0.400"
        page.get_by_label("recall").check()
        assert first.inner_text() == "0.250"


def test_without_the_script_it_is_a_plain_page(opened):
    page = opened(java_script_enabled=False)
    assert len(shown(page)) == 3 and page.get_by_text("Agreement with the teacher").is_visible()
    assert page.locator("button:visible, input[type=search]:visible, select:visible").count() == 0


def test_light_and_dark(opened):
    def paper(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = opened(color_scheme="light"), opened(color_scheme="dark")
    white, black = paper(light), paper(dark)
    assert white != black
    light.get_by_role("button", name="Dark").click()
    assert paper(light) == black
    light.get_by_role("button", name="Light").click()
    assert paper(light) == white
    light.emulate_media(color_scheme="dark")  # what was chosen stays chosen
    assert paper(light) == white
    dark.emulate_media(media="print")
    assert paper(dark) == white
    dark.emulate_media(media="screen", color_scheme="light")
    assert paper(dark) == white  # nothing chosen: the system's


def test_a_phone_never_scrolls_sideways(opened, tmp_path):
    long = "x" * 300
    facts = FACTS | {"command": long, "recipe": long, "data": {"notes": [long]}}
    lines = [{**line, "text": f"{long} {line['text']}"} for line in LINES]
    for folder in ("one", long[:100]):
        write_run(tmp_path / folder, facts, lines)
    both = write_comparison(read_runs([tmp_path / "one", tmp_path / long[:100]]), tmp_path / "both.html")
    for file in (write_page(tmp_path / "one"), both):
        page = opened(file, viewport=PHONE)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width == PHONE["width"], f"{file.name}: {width} pixels wide"
        assert page.locator("h1").is_visible()


WIDE = """() => [...document.querySelectorAll("table")].map((table) => {
    const box = table.closest(".wide") ?? document.documentElement;
    return [table.tHead?.innerText.slice(0, 20) ?? "", box.scrollWidth - box.clientWidth];
})"""


@pytest.mark.parametrize("width", [1440, 1200, 900, 390])
def test_nothing_is_cut_off_at_any_width(opened, tmp_path, width):
    """The law: the page never scrolls sideways; every table is whole at 1,200 pixels, and scrolls in its own box where it is not."""
    one = entry(0.987654) | {
        "parameters": 22_713_216,
        "latency_p50_range_ms": [27.05, 133.07],
        "rows_per_second": 15412.0,
        "rows_per_second_range": [14641.0, 116183.0],
        "seconds": 1234.0,
    }
    one["quality"] = {metric: {"value": 0.987, "ci95": [0.981, 0.993]} for metric in ("accuracy", "macro_f1")}
    facts = FACTS | {"models": dict.fromkeys(MODEL_NAMES, one)}
    for name in ("one", "bilstm_from_a_long_folder_name"):
        write_run(tmp_path / name, facts)
    both = write_comparison(read_runs([tmp_path / "one", tmp_path / "bilstm_from_a_long_folder_name"]), tmp_path / "b.html")
    for file in (write_page(tmp_path / "one"), both):
        page = opened(file, viewport={"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if width >= 1200:
            assert all(beyond <= 1 for _, beyond in page.evaluate(WIDE)), page.evaluate(WIDE)
