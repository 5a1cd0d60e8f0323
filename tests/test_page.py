"""The page of a report, in a real browser, from a file and without a network."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.synthetic import a_big_run
from tests.test_report import EVERYTHING, ROWS, a_run, compiled, keep, needs_latex
from vinet_bench.report import write_report

EVIL = ["VINet", "<script>alert(1)</script>", "a_b & c%", "$x^2", "CAM"]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SCREENSHOTS = os.environ.get("VINET_BENCH_SCREENSHOTS")  # a folder, to look at them
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = a_big_run(tmp_path_factory.mktemp("page"), EVIL, seeds=2)
    write_report(folder, formats=["html", "tex"])
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        # As root, which a container is, Chromium has no sandbox.
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def opened(browser: Any, file: Path, **context: Any) -> tuple[Any, list[str]]:
    """The page, and what it complained of or asked of a network."""
    complaints: list[str] = []
    page = browser.new_context(**context).new_page()
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: complaints.append(request.url))
    page.goto(file.as_uri())
    if page.locator("#choices").count():
        page.locator("#cases canvas").first.wait_for()
    own = (file.as_uri(), "data:")
    return page, [c for c in complaints if not c.startswith(own)]


def column(page: Any, place: int, table: int = 0) -> list[str]:
    cells = page.locator("table").nth(table).locator("tbody tr").all()
    return [cell.locator("th, td").nth(place).inner_text() for cell in cells]


@in_browser
def test_the_page_opens_from_a_file_and_asks_for_nothing(browser: Any, page_file: Path) -> None:
    page, complaints = opened(browser, page_file)
    assert complaints == []
    headings = page.locator("h2").all_inner_texts()
    assert headings[:3] == ["What was run", "Verdict", "Table I. Keep-important"]
    assert headings[-5:-1] == ["Audit", "Gallery", "Cost", "Settings"]


@in_browser
def test_names_come_out_as_text(browser: Any, page_file: Path) -> None:
    page, _ = opened(browser, page_file)
    titles = column(page, 0)
    assert [title for title in titles if title in EVIL] == EVIL
    assert page.locator("svg text", has_text="$x^2").count() > 0
    assert page.locator("label", has_text="<script>alert(1)</script>").count() > 0


@in_browser
def test_a_click_on_a_heading_sorts_and_another_turns_the_order(
    browser: Any, page_file: Path
) -> None:
    page, _ = opened(browser, page_file)
    before = column(page, 2)
    heading = page.locator("table").first.locator("thead th").nth(2)
    heading.get_by_role("button").click()
    falling = column(page, 2)
    assert heading.get_attribute("aria-sort") == "descending"
    assert falling == sorted(before, key=lambda text: -float(text.split()[0]))
    heading.get_by_role("button").press("Enter")
    assert column(page, 2) == sorted(before, key=lambda text: float(text.split()[0]))
    # Rows without a figure stay last in either order.
    masks = page.locator("table").first.locator("thead th").nth(4).get_by_role("button")
    for _ in range(2):
        masks.click()
        assert column(page, 4)[-2:] == ["–", "–"]


@in_browser
def test_a_figure_leads_to_its_cells(browser: Any, page_file: Path) -> None:
    page, _ = opened(browser, page_file)
    row = page.locator("table").first.locator("tbody tr").nth(2)
    row.locator("td a").nth(1).click()
    dialog = page.locator("dialog")
    dialog.wait_for(state="visible")  # it opens when the address has changed
    assert dialog.locator("h2").inner_text() == "VINet: Accuracy %"
    seeds = dialog.locator("summary").all_inner_texts()
    assert [text.split(":")[0] for text in seeds] == ["Seed 0", "Seed 1"]
    assert "keep-important" in dialog.locator("dd").all_text_contents()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")


@in_browser
def test_the_slider_changes_which_pixels_are_reserved(browser: Any, page_file: Path) -> None:
    page, _ = opened(browser, page_file)

    def shares() -> list[float]:
        texts = page.locator("#cases figcaption").all_inner_texts()
        kept = [t for t in texts if "% reserved" in t]
        return [float(t.split("\n")[1].split(" %")[0]) for t in kept]

    high = shares()
    page.locator("#threshold").fill("0.3")
    page.locator("#t", has_text="0.30").wait_for()
    page.locator("#shown", has_text="T = 0.30").wait_for()
    assert all(low < kept for low, kept in zip(shares(), high, strict=True))
    before = page.locator("#cases canvas").nth(1).screenshot()
    page.locator("#view").select_option("overlay")
    assert page.locator("#cases canvas").nth(1).screenshot() != before


@in_browser
def test_cases_are_sorted_and_chosen(browser: Any, page_file: Path) -> None:
    page, _ = opened(browser, page_file)

    def evidence() -> list[float]:
        words = page.locator(".case > figure:first-child figcaption").all_inner_texts()
        return [float(text.split("evidence ")[1].split(" %")[0]) for text in words]

    page.locator("#order").select_option("area")
    page.wait_for_function("document.querySelectorAll('.case').length === 8")
    assert evidence() == sorted(evidence(), reverse=True)
    for label in "1234":
        page.get_by_role("checkbox", name=label, exact=True).uncheck()
    page.locator("#shown", has_text="4 of 24 cases").wait_for()
    words = page.locator(".case > figure:first-child figcaption").all_inner_texts()
    assert all("class 5" in text for text in words)
    page.get_by_role("checkbox", name="Random").check()
    page.locator("#shown", has_text="6 methods").wait_for()


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_accessible_and_fits(
    browser: Any, page_file: Path, scheme: str, width: int
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page, _ = opened(
        browser, page_file, color_scheme=scheme, viewport={"width": width, "height": 800}
    )
    if SCREENSHOTS:
        page.screenshot(path=f"{SCREENSHOTS}/{scheme}-{width}.png", full_page=True)
    found = Axe().run(page).response["violations"]
    serious = [v["id"] for v in found if v["impact"] in ("serious", "critical")]
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_what_failed_or_is_missing_is_said(tmp_path: Path) -> None:
    filled = [*EVERYTHING[:5], keep("cam", error="VGG-16 diverged <b>")]
    write_report(a_run(tmp_path, filled, seeds=[0, 1]), formats=["html"])
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "<strong>Partial.</strong>" in text
    assert 'class="failed"' in text
    assert "VGG-16 diverged &lt;b&gt;" in text
    box = text.split('id="unfinished">')[1].split("</section>")[0]
    for words in ("VGG-16 diverged &lt;b&gt;", "seed 1 missing", "No records (yet) for: Random"):
        assert words in box
    assert "gallery needs" not in text  # this run kept no pictures


def test_a_whole_run_is_not_called_partial(page_file: Path) -> None:
    assert "<strong>Partial.</strong>" not in page_file.read_text("utf-8")


@needs_latex
def test_the_same_names_compile_in_latex(page_file: Path) -> None:
    folder = page_file.parent
    compiled(folder, sorted(path.stem for path in folder.glob("*.tex") if path.stem != "all"))


def test_the_report_never_imports_torch(tmp_path: Path) -> None:
    folder = a_big_run(tmp_path / "run", ["VINet", "CAM"])
    code = (
        "import sys; from pathlib import Path; from vinet_bench.report import write_report;"
        f" write_report(Path({str(folder)!r}), Path({str(tmp_path / 'out')!r}));"
        " sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_paper_stands_beside_ours(tmp_path: Path) -> None:
    rows = [row for row in ROWS if row["name"] in ("original", "vinet")]
    write_report(a_run(tmp_path, EVERYTHING, rows=rows), formats=["html"])
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "Paper: Accuracy %" in text
    assert ">82.15<" in text  # VINet in the paper
