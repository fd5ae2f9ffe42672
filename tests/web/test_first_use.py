"""What a person who is new to the page sees: nothing jumps, is cut off, goes away, or waits in silence."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_helpers import PATIENCE, Page, command, make_clip, wait_until
from PIL import Image

from samvideo.io.masks import read_mask_objects
from samvideo.web import open_pages as pages
from samvideo.web.open_pages import OpenPages
from tests.clips import write_clip
from tests.scenes import overlap


def visible(page: Page, selector: str) -> bool:
    """Whether all of an element can be seen: inside the window and its scrolled parents."""
    return page.tab.evaluate(
        """(selector) => {
          const element = document.querySelector(selector), box = element.getBoundingClientRect();
          let inside = box.top >= 0 && box.left >= 0;
          inside &&= box.bottom <= innerHeight + 1 && box.right <= innerWidth + 1;
          for (let up = element.parentElement; up; up = up.parentElement) {
            const room = up.getBoundingClientRect();
            if (getComputedStyle(up).overflowY !== "visible")
              inside &&= box.top >= room.top - 1 && box.bottom <= room.bottom + 1;
          }
          return inside && box.height > 0; }""",
        selector,
    )


def test_nothing_jumps_with_fourteen_objects(tmp_path: Path, browser: Any) -> None:
    make_clip(tmp_path, frames=3)
    with command(tmp_path, "track", "demo.mp4", "--prompt", "box") as run:
        page = Page(browser, run.address)
        page.tab.set_viewport_size({"width": 1280, "height": 720})
        height = page.tab.locator("#stage").bounding_box()["height"]
        assert all(visible(page, f"#{name}") for name in ("zoom-fit", "undo", "track"))
        for k in range(1, 15):
            page.key("a")
            wait_until(lambda k=k: len(page.state()["objects"]) == k)
            page.drag(20 + 9 * k, 30, 60 + 9 * k, 90)
            wait_until(lambda k=k: len(page.state()["annotations"]) == k)
            assert visible(page, "#objects [aria-current=true]")
        assert page.tab.locator("#stage").bounding_box()["height"] == height
        assert page.tab.evaluate("document.getElementById('marks').clientHeight") == 14 * 16
        assert page.tab.evaluate("document.getElementById('rail').scrollTop") > 0
        # The middle of the mark of the current frame is white, and nothing lies above it.
        x, y = page.tab.evaluate(
            """(() => { const box = document.getElementById("marks").getBoundingClientRect();
            return [box.left + samvideo.timeline.share(0) * box.width, box.bottom - 8]; })()"""
        )
        shot = page.tab.screenshot(clip={"x": x - 1, "y": y - 1, "width": 3, "height": 3})
        (tmp_path / "mark.png").write_bytes(shot)
        assert np.asarray(Image.open(tmp_path / "mark.png").convert("RGB")).min() > 230
        page.tab.set_viewport_size({"width": 420, "height": 800})
        for name in ("track", "next-suspect", "finish"):
            assert visible(page, f"#{name}"), name
        assert page.tab.evaluate("document.documentElement.scrollWidth") <= 420
        page.tab.set_viewport_size({"width": 1280, "height": 720})
        page.tab.close()


def test_brush_eraser_and_polygon_make_masks(tmp_path: Path, browser: Any) -> None:
    boxes = make_clip(tmp_path, frames=4)
    with command(tmp_path, "track", "demo.mp4", "--prompt", "mask", "-o", "out", "--save", "masks") as run:
        page = Page(browser, run.address)
        assert "Paint" in page.tab.text_content("#hint")
        assert page.tab.get_attribute("[data-tool=brush]", "aria-pressed") == "true"
        page.key("]", "]")
        width = float(page.tab.input_value("#brush-size"))
        page.drag(40, 60, 80, 60)
        stroke = page.outlines(0, 1, "preview")
        xs, ys = [v / 10 for s in stroke for v in s[::2]], [v / 10 for s in stroke for v in s[1::2]]
        assert min(xs) == pytest.approx(40 - width / 2, abs=1)
        assert max(ys) - min(ys) == pytest.approx(width, abs=1.5)
        page.key("e")
        page.drag(60, 20, 60, 120)
        wait_until(lambda: page.tab.evaluate("samvideo.pictures.shown.objects['1'].shapes.length") == 2)
        page.key("Control+z")
        wait_until(lambda: page.tab.evaluate("samvideo.pictures.shown.objects['1'].shapes.length") == 1)
        page.key("Control+z")
        wait_until(lambda: not page.state()["annotations"])
        # The corners of a box, one of them taken back, closed by Enter.
        x1, y1, x2, y2 = boxes[0]
        page.key("g")
        for x, y in ((x1, y1), (x2, y1), (160, 170)):
            page.click(x, y)
        page.key("Backspace")
        page.click(x2, y2)
        page.click(x1, y2)
        page.key("Enter")
        page.outlines(0, 1, "preview")
        assert [(new["mask"], new["box"]) for new in page.state()["annotations"]] == [(True, None)]
        page.click(5, 5)
        page.click(9, 9)
        page.key("Escape")
        assert page.tab.evaluate("samvideo.stage.painter.corners.length") == 0
        page.tab.focus("#stage")
        page.key("Enter")
        page.wait_saved()
        page.finish()
        assert run.ended() == 0
        assert not page.complaints, page.complaints
        page.tab.close()
    drawn = np.zeros((180, 320), bool)
    drawn[round(y1) : round(y2), round(x1) : round(x2)] = True
    assert overlap(read_mask_objects(tmp_path / "out" / "masks" / "00000.png")[1], drawn) > 0.95


def test_ids_of_a_mask_file_are_objects_and_errors_stay(tmp_path: Path, browser: Any) -> None:
    make_clip(tmp_path, frames=2)
    ids = np.zeros((180, 320), np.uint8)
    ids[20:60, 20:60], ids[100:140, 200:260] = 1, 2
    Image.fromarray(ids).save(tmp_path / "two.png")
    (tmp_path / "text.png").write_text("no picture")
    with command(tmp_path, "track", "demo.mp4", "--prompt", "box") as run:
        page = Page(browser, run.address)
        page.tab.set_input_files("#mask-file", str(tmp_path / "text.png"))
        page.tab.wait_for_selector("#errors li")
        page.tab.set_input_files("#mask-file", str(tmp_path / "two.png"))
        wait_until(
            lambda: [(new["object"], new["mask"]) for new in page.state()["annotations"]] == [(1, True), (2, True)]
        )
        assert len(page.state()["objects"]) == 2
        page.outlines(0, 2, "preview")
        page.key("Control+z")
        wait_until(lambda: not page.state()["objects"])
        time.sleep(0.2)
        assert page.tab.locator("#errors li").count() == 1, page.tab.text_content("#errors")
        page.tab.click("#errors button")
        assert page.tab.locator("#errors li").count() == 0
        page.tab.close()


def test_leaving_asks_files_outlive_finish_and_the_terminal_is_told(tmp_path: Path, browser: Any) -> None:
    boxes = make_clip(tmp_path, frames=160)
    with command(tmp_path, "track", "demo.mp4", "--prompt", "box", "-o", "out") as run:
        page = Page(browser, run.address)
        page.tab.close()
        wait_until(lambda: any("the page was closed" in line for line in run.said))
        page = Page(browser, run.base)  # and opened again
        page.drag(*boxes[0])
        page.outlines(0, 1, "preview")
        page.tab.click("#track")
        wait_until(lambda: page.state()["phase"] == "tracking" and (page.state()["at"] or 0) > 3)
        assert " of 160" in page.tab.text_content("#status")
        page.tab.click("#track")
        wait_until(lambda: page.state()["phase"] == "paused")
        with page.tab.expect_event("dialog") as asked:
            page.tab.close(run_before_unload=True)
        assert asked.value.type == "beforeunload"
        asked.value.dismiss()
        page.tab.click("#track")
        assert page.tab.text_content("#count") == "of 160"
        page.wait_saved()
        assert not page.tab.is_visible("#old")
        page.drag(*boxes[1])
        wait_until(lambda: page.tab.is_visible("#old"))
        page.key("Control+z")
        wait_until(lambda: not page.tab.is_visible("#old"))
        page.tab.click("#finish")
        page.tab.wait_for_selector("#done[open]")
        with page.tab.expect_download() as table:
            page.tab.click("#done-downloads >> text=Table CSV")
        assert Path(table.value.path()).read_text() == (tmp_path / "out" / "tracks.csv").read_text()
        assert any("until it is closed" in line for line in run.said)
        run.signal(signal.SIGINT)
        assert run.ended() == 0  # all was written before
        page.tab.wait_for_selector("text=The command has ended")
        page.tab.close()


def test_times_shapes_and_missing_frames_are_true(tmp_path: Path, browser: Any) -> None:
    times = [0, 0.04, 1.5, 1.54, 4.0, 4.04]
    write_clip(tmp_path / "v.mp4", 6, times=times, sample_aspect_ratio=2)
    with command(tmp_path, "track", "v.mp4", "--prompt", "box") as run:
        page = Page(browser, run.address)
        page.key("ArrowRight", "ArrowRight")
        wait_until(lambda: page.tab.text_content("#time") == "0:01.50")
        left, top, right, bottom = *page.at(0, 0), *page.at(128, 96)
        assert (right - left) / (bottom - top) == pytest.approx(2 * 128 / 96, rel=0.01)
        page.drag(32, 24, 64, 48)
        wait_until(lambda: page.state()["annotations"])
        assert page.state()["annotations"][0]["box"] == pytest.approx([32, 24, 64, 48], abs=0.5)
        # A frame that cannot be read is blank, and takes no marks.
        page.tab.route("**/api/frames/4*", lambda route: route.fulfill(status=400, json={"error": "no frame 4"}))
        page.tab.fill("#number", "4")
        page.key("Enter")
        wait_until(lambda: "no frame 4" in page.tab.text_content("#problem"))
        shown = page.tab.evaluate("[samvideo.pictures.shown.frame, samvideo.pictures.shown.bitmap]")
        assert shown == [4, None]
        page.drag(10, 10, 60, 60)
        # One that takes long says so, and takes none either.
        held: list[Any] = []
        page.tab.route("**/api/frames/5*", lambda route: held.append(route))
        page.key("ArrowRight")
        wait_until(lambda: page.tab.text_content("#working") == "Loading frame 5")
        page.drag(10, 10, 60, 60)
        held[0].continue_()
        wait_until(lambda: page.tab.evaluate("samvideo.pictures.shown.frame") == 5)
        wait_until(lambda: not page.tab.text_content("#working"))
        assert [new["frame"] for new in page.state()["annotations"]] == [2]
        page.tab.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_token_is_in_no_process_arguments(tmp_path: Path, browser: Any) -> None:
    make_clip(tmp_path, frames=2)
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    script.chmod(0o700)
    line = [sys.executable, "-m", "samvideo", "track", "demo.mp4", "--prompt", "box", "--model", "flow"]
    environment = {**os.environ, "DISPLAY": ":99", "BROWSER": f"{script} %s"}
    running = subprocess.Popen(line, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: (tmp_path / "opened").exists() and (tmp_path / "opened").read_text())
        opened = (tmp_path / "opened").read_text().strip()
        assert "token" not in opened
        file = Path(opened.removeprefix("file://"))
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        tab = browser.new_page()
        tab.goto(opened)
        tab.wait_for_url("http://127.0.0.1:*/")
        tab.wait_for_selector("#title")
    finally:
        running.terminate()
        running.wait(PATIENCE)
    assert not file.exists()


def test_a_slow_reload_is_no_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(pages.time, "monotonic", lambda: now[0])

    def visit(count: OpenPages, seconds: float) -> None:
        with count.page():
            now[0] += seconds

    count = OpenPages()
    visit(count, 30)
    count.left()
    now[0] += 5
    assert not count.gone(silent=True)
    count.loading()  # over a slow line
    now[0] += 40
    assert not count.gone(silent=True)
    visit(count, 5)
    count.left()
    now[0] += pages.AFTER_GOODBYE + 1
    assert count.gone(silent=False)
    # Another page's goodbye long ago does not make a broken connection one.
    count = OpenPages()
    with count.page():
        visit(count, 1)
        count.left()
        now[0] += 100
    now[0] += pages.AFTER_GOODBYE + 1
    assert not count.gone(silent=True)


def test_the_page_of_images_speaks_of_images(tmp_path: Path, browser: Any) -> None:
    pictures = tmp_path / "pics"
    pictures.mkdir()
    for name, shade in (("a.png", 60), ("b.png", 90)):
        rgb = np.full((90, 160, 3), shade, np.uint8)
        rgb[20:60, 40:100] = (220, 40, 40)
        Image.fromarray(rgb).save(pictures / name)
    with command(tmp_path, "segment", "pics", "--prompt", "box", "-o", "out") as run:
        page = Page(browser, run.address)
        assert page.tab.text_content("#meta") == "160×90 · 2 images · grabcut"
        assert page.tab.text_content("#track") == "Segment"
        assert any("press Segment, then Finish" in line for line in run.said)
        assert not page.tab.is_visible("#direction")
        page.drag(36, 16, 104, 64)
        page.outlines(0, 1, "preview")
        page.tab.click("#track")
        page.wait_saved()
        names = page.tab.locator("#downloads a").all_text_contents()
        assert names == ["Overlays (zip)", "Masks (zip)", "Masks JSON", "Table CSV"]
        page.finish()
        assert run.ended() == 0
        assert page.complaints == []
