"""The page in a real browser, offline: no error, nothing fetched, and the numbers of the CSV files."""

import csv
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from page_helpers import FLAGS, find_chromium
from runs_made import INFO, box, disc, nothing, results, write_run
from typer.testing import CliRunner

from samvideo.analysis.output import write_analysis
from samvideo.analysis.settings import AnalysisSettings
from samvideo.cli.main import app


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    made = results(
        60,
        lambda k: nothing() if 30 <= k < 45 else disc(20 + 2 * k, 50 + k % 3),
        lambda k: box(120, 30, 180, 70),
        lambda k: box(0, 5, 40 + k % 9, 9),
    )
    run = write_run(folder / "run", made, ("rle", "overlay"))
    labels = {1: "L-hook <b>", 2: "liver", 3: "grasper"}
    write_analysis(run, folder / "report", AnalysisSettings(labels=labels, tissue=frozenset({2})))
    return folder / "report"


def test_a_page_that_needs_nothing_else(report: Path) -> None:
    text = (report / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "L-hook &lt;b&gt;" in text
    assert not [name for name, count in Counter(re.findall(r' id="([^"]*)"', text)).items() if count > 1]
    assert "<script" not in text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text)


def test_a_browser_shows_the_numbers_of_the_tables(report: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    browser_path = find_chromium()
    if browser_path is None:
        pytest.skip("no Chromium here")
    troubles: list[str] = []
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=browser_path, args=FLAGS)
        context = browser.new_context(offline=True)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("requestfailed", lambda request: troubles.append(request.url))
        page.goto(f"file://{report / 'report.html'}")
        shown = page.eval_on_selector_all(
            "#objects [data-column]",
            "cells => cells.map(c => [c.closest('tr').dataset.object, c.dataset.column, c.innerText])",
        )
        images = page.eval_on_selector_all("img", "all => all.map(i => i.complete && i.naturalWidth > 0)")
        charts = page.eval_on_selector_all("svg", "all => all.map(s => s.getBoundingClientRect().height)")
        events = page.eval_on_selector_all(
            "table.narrow tbody tr", "rows => rows.map(r => r.innerText.split('\\t'))"
        )
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 700, "height": 900})  # A4 less its margins
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        browser.close()
    assert troubles == []
    assert all(images)
    assert len(images) == 2  # instruments only
    assert all(height > 50 for height in charts)
    assert overflow <= 0
    with (report / "objects.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert len(shown) == 3 * 14
    for number, column, value in shown:
        assert value == rows[number][column], (number, column)
    with (report / "events.csv").open(newline="") as file:
        output = [(row["seconds"], row["frame"], row["event"]) for row in csv.DictReader(file)]
    assert [tuple(row[:3]) for row in events] == output


@pytest.mark.parametrize("name", ["{body}", "<b>", "{{ 1 + 1 }}", "$x_1$", "</svg>", '"quoted"', "手術"])
def test_names_are_shown_as_they_are(name: str, tmp_path: Path) -> None:
    made = results(5, lambda k: disc(20 + 2 * k, 50))
    run = write_run(tmp_path / "run", made, info=replace(INFO, name=name))
    write_analysis(run, tmp_path / "report", AnalysisSettings(labels={1: name}))
    text = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    page = PageText()
    page.feed(text)
    assert page.title == page.heading == name
    assert page.text.count(f"1 {name}") >= 4  # timeline, table, titles of charts
    assert page.unknown == set()


class PageText(HTMLParser):
    """The text of a page, and the elements that no template has."""

    def __init__(self) -> None:
        super().__init__()
        self.title = self.heading = self.text = ""
        self.unknown: set[str] = set()
        self._open = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._open = tag
        if tag in ("b", "script"):
            self.unknown.add(tag)

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open == "title":
            self.title += data
        elif self._open == "h1":
            self.heading += data


def test_the_command(report: Path, tmp_path: Path) -> None:
    run = report.parent / "run"

    def call(*arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["analyze", str(run), *map(str, arguments)])
        assert "Traceback" not in done.output
        return done.exit_code, " ".join(done.output.split())

    code, output = call("-o", tmp_path / "out", "--fps", 50, "--label", "1=hook", "--tissue", "2")
    assert code == 0, output
    assert "hook in view 0.9 s" in output
    assert call("-o", tmp_path / "out")[0] == 2
    code, output = call("-o", tmp_path / "out", "--overwrite", "--json", "--video", run / "overlay.mp4")
    assert (code, '"unit": "px"' in output) == (0, True)
    for arguments, message in (
        (["--label", "grasper"], "like 1=grasper"),
        (["--tissue", "liver"], "numbers from 1"),
        (["--fps", "-1"], "fps must be"),
        (["--video", tmp_path / "none.mp4"], "does not exist"),
    ):
        code, output = call("-o", tmp_path / "other", *arguments)
        assert code in (2, 3)
        assert message in output
    assert call()[0] == 0
    assert (run / "analysis" / "report.html").exists()
