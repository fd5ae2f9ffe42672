"""A person's way through the page, in a real browser."""

import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from page_helpers import Page, command, make_clip, wait_until

from samvideo.demo import demo_frames
from samvideo.geometry import mask_box
from samvideo.io.masks import read_mask_objects
from samvideo.io.source import open_video
from tests.scenes import overlap

SHARED = Path(os.environ.get("SAMVIDEO_SHARED", Path(__file__).parents[2].parent / "shared"))
DAVIS = SHARED / "data" / "davis2016-train-240p"


def filled(shapes: list[list[int]], size_wh: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size_wh[::-1], np.uint8)
    lines = [np.round((np.array(s).reshape(-1, 2) / 10 - 0.5) * 16).astype(np.int32) for s in shapes]
    cv2.fillPoly(mask, lines, 1, shift=4)
    return mask.astype(bool)


@pytest.mark.skipif(not DAVIS.is_dir(), reason=f"no {DAVIS}: set SAMVIDEO_SHARED")
def test_mark_track_correct_and_download_on_a_real_video(tmp_path: Path, browser: Any) -> None:
    name, count = "bear", 48
    (tmp_path / name).mkdir()
    for path in sorted((DAVIS / "JPEGImages" / name).iterdir())[:count]:
        (tmp_path / name / path.name).symlink_to(path)
    truths = sorted((DAVIS / "Annotations" / name).iterdir())
    truth = read_mask_objects(truths[0])[1]
    size_wh = truth.shape[1], truth.shape[0]
    with command(tmp_path, "track", name, "--prompt", "box", "-o", "out") as run:
        page = Page(browser, run.address)
        box = mask_box(truth)
        assert box
        page.drag(*box)
        preview = filled(page.outlines(0, 1, "preview"), size_wh)
        assert overlap(preview, truth) >= 0.6
        x, y = np.argwhere(preview).mean(0)[::-1]
        drawn = page.tab.evaluate(
            """([x, y]) => { const c = document.getElementById("drawing"), s = devicePixelRatio;
            const [a, b] = samvideo.stage.toScreen(x, y);
            return c.getContext("2d").getImageData(a * s, b * s, 1, 1).data[3]; }""",
            [float(x), float(y)],
        )
        assert 90 < drawn < 140  # the tint at 45 percent
        page.tab.click("#track")
        # Reloaded in mid-run, and in a second tab: both show the run as it is.
        wait_until(lambda: page.state()["phase"] == "tracking")
        page.tab.reload()
        page.ready()
        wait_until(lambda: len(page.state()["annotations"]) == 1)
        second = Page(browser, run.base)
        second.wait_saved()
        page.wait_saved()
        assert (
            page.tab.evaluate("samvideo.model.rows.size")
            == second.tab.evaluate("samvideo.model.rows.size")
            == count
        )
        before = read_mask_objects(tmp_path / "out" / "masks" / "00000.png")[1]
        assert overlap(before, truth) >= 0.6
        # A correction on a later frame: a box where the object is, seen by both tabs.
        page.tab.fill("#number", "8")
        page.key("Enter")
        wanted = read_mask_objects(truths[8])[1]
        later = mask_box(wanted)
        assert later
        page.outlines(8, 1, "tracked")
        page.drag(*later)
        assert overlap(filled(page.outlines(8, 1, "preview"), size_wh), wanted) >= 0.6
        wait_until(lambda: second.state()["changed"] == [8])
        untouched = (tmp_path / "out" / "masks" / "00007.png").read_bytes()
        assert page.tab.text_content("#track") == "Continue"
        page.tab.click("#track")
        wait_until(lambda: not page.state()["changed"])
        page.wait_saved()
        assert (tmp_path / "out" / "masks" / "00007.png").read_bytes() == untouched
        with page.tab.expect_download() as table:
            page.tab.click("text=Table CSV")
        with page.tab.expect_download() as masks:
            page.tab.click("text=Masks (zip)")
        assert table.value.suggested_filename == "bear_tracks.csv"
        with zipfile.ZipFile(masks.value.path()) as archive:
            assert len(archive.namelist()) == count
        downloaded = Path(table.value.path()).read_text()
        page.finish()
        assert run.ended() == 0
        assert not page.complaints, page.complaints
        page.tab.close()
        second.tab.close()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "masks",
        "overlay.mp4",
        "run.json",
        "tracks.csv",
        "tracks.json",
        "tracks.jsonl",
    ]
    assert downloaded == (tmp_path / "out" / "tracks.csv").read_text()
    run_json = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run_json["status"] == "complete"
    assert [text.split("=")[0] for text in run_json["settings"]["prompts"]] == ["box", "box"]
    with open_video(tmp_path / "out" / "overlay.mp4") as video:
        assert len(list(video)) == count


def test_two_objects_undo_and_the_files_of_the_direct_form(tmp_path: Path, browser: Any) -> None:
    boxes = make_clip(tmp_path)
    with command(tmp_path, "track", "demo.mp4", "--prompt", "box", "-o", "page") as run:
        page = Page(browser, run.address)
        page.drag(*boxes[0])
        page.outlines(0, 1, "preview")
        page.key("a")
        wait_until(lambda: len(page.state()["objects"]) == 2)
        page.drag(5, 5, 40, 40)  # not what was meant
        wait_until(lambda: len(page.state()["annotations"]) == 2)
        page.key("Control+z")
        wait_until(lambda: len(page.state()["annotations"]) == 1)
        page.key("Control+Shift+z")
        wait_until(lambda: len(page.state()["annotations"]) == 2)
        page.key("Control+z")
        wait_until(lambda: len(page.state()["annotations"]) == 1)
        page.drag(*boxes[1])
        page.outlines(0, 2, "preview")
        page.tab.fill("#objects li:nth-child(2) input", "square <b>&")
        page.key("Enter")
        wait_until(lambda: page.state()["objects"][1]["name"] == "square <b>&")
        page.tab.focus("#stage")
        page.key("Enter")
        page.wait_saved()
        drawn = page.state()["annotations"]
        page.finish()
        assert run.ended() == 0
        assert not page.complaints, page.complaints
        page.tab.close()
    prompts = [f"box={','.join(f'{v:g}' for v in new['box'])}@0#{new['object']}" for new in drawn]
    direct = [
        "track",
        "demo.mp4",
        "--prompt",
        prompts[0],
        "--prompt",
        f"{prompts[1]}:square <b>&",  # its name is its label
        "-o",
        "direct",
        "--model",
        "flow",
    ]
    subprocess.run([sys.executable, "-m", "samvideo", *direct, "--quiet"], cwd=tmp_path, check=True)
    for path in sorted((tmp_path / "direct").rglob("*")):
        twin = tmp_path / "page" / path.relative_to(tmp_path / "direct")
        if path.suffix in (".png", ".csv", ".json") and path.name != "run.json":
            assert path.read_bytes() == twin.read_bytes(), path
    assert sorted(p.name for p in (tmp_path / "direct").iterdir()) == sorted(
        p.name for p in (tmp_path / "page").iterdir()
    )
    recorded = [json.loads((tmp_path / out / "run.json").read_text())["settings"] for out in ("page", "direct")]
    assert recorded[0] == recorded[1]


def test_pause_correct_on_the_spot_and_go_back(tmp_path: Path, browser: Any) -> None:
    make_clip(tmp_path, frames=160)
    truth = [masks[0] for _, masks in demo_frames(160, (320, 180))]
    with command(tmp_path, "track", "demo.mp4", "--prompt", "points", "-o", "out") as run:
        page = Page(browser, run.address)
        page.tab.fill("#number", "8")
        page.key("Enter")
        wait_until(lambda: page.tab.evaluate("samvideo.pictures.shown.frame") == 8)
        assert page.tab.get_attribute("[data-tool=plus]", "aria-pressed") == "true"
        box = mask_box(truth[8])
        assert box
        page.key("b")
        page.drag(*box)
        page.outlines(8, 1, "preview")
        page.tab.check("[name=direction][value=both]", force=True)
        page.tab.focus("#stage")
        page.key("Enter")
        wait_until(lambda: page.state()["phase"] == "tracking" and (page.state()["at"] or 0) > 10)
        page.key("Enter")
        wait_until(lambda: page.state()["phase"] == "paused")
        assert page.tab.text_content("#track") == "Continue"
        page.key("Enter")
        page.wait_saved()
        assert page.tab.evaluate("samvideo.model.rows.size") == 160
        # A pass that is paused before its first result leaves the files there are.
        page.tab.evaluate(
            """async () => {
              const send = (path, what) => fetch(path, {
                method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify(what) });
              await send("/api/edit", {do: "click", frame: 30, object: 1, xy: [160, 90], label: 0});
              await send("/api/command", {kind: "track", direction: "both"});
              await send("/api/command", {kind: "pause"}); }"""
        )
        wait_until(lambda: (now := page.state())["phase"] == "paused" and not now["saving"] and now["files"])
        page.tab.close()
        run.signal(signal.SIGINT)
        assert run.ended() == 130
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "interrupted"
    assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["direction"] == "both"
    with (tmp_path / "out" / "tracks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted({int(row["frame"]) for row in rows}) == list(range(160))
    for index in (0, 4, 7, 9):
        found = read_mask_objects(tmp_path / "out" / "masks" / f"{index:05d}.png")
        assert overlap(found[1], truth[index]) > 0.5


def test_closing_the_page_in_mid_track_keeps_what_there_is(tmp_path: Path, browser: Any) -> None:
    # more frames than a fast machine can track until it has noticed that the page is gone
    boxes = make_clip(tmp_path, frames=1000)
    with command(tmp_path, "track", "demo.mp4", "--prompt", "box", "-o", "out") as run:
        page = Page(browser, run.address)
        page.drag(*boxes[0])
        page.outlines(0, 1, "preview")
        page.tab.click("#track")
        wait_until(lambda: page.state()["phase"] == "tracking" and (page.state()["at"] or 0) > 3)
        page.tab.close()
        assert run.ended() == 130
    summary = json.loads((tmp_path / "out" / "run.json").read_text())
    assert summary["status"] == "interrupted"
    assert 3 < summary["frames"] < 1000
    assert len(list((tmp_path / "out" / "masks").iterdir())) == summary["frames"]
    assert len(json.loads((tmp_path / "out" / "tracks.json").read_text())["frames"]) == summary["frames"]


def check_separate(places: dict[str, Any]) -> None:
    """Check that no two of the boxes overlap."""
    names = sorted(places)
    for k, name in enumerate(names):
        for other in names[k + 1 :]:
            a, b = places[name], places[other]
            separate = (
                a["x"] + a["width"] <= b["x"] + 0.5
                or b["x"] + b["width"] <= a["x"] + 0.5
                or a["y"] + a["height"] <= b["y"] + 0.5
                or b["y"] + b["height"] <= a["y"] + 0.5
            )
            assert separate, f"{name} overlaps {other}"


@pytest.mark.parametrize("size", [(1280, 720), (820, 1180), (1024, 768), (420, 800)])
def test_nothing_is_cut_off(tmp_path: Path, browser: Any, size: tuple[int, int]) -> None:
    boxes = make_clip(tmp_path, frames=4)
    with command(
        tmp_path, "track", "demo.mp4", "--prompt", f"box={','.join(map(str, boxes[0]))}", "-p", "box"
    ) as run:
        page = Page(browser, run.address)
        page.tab.set_viewport_size({"width": size[0], "height": size[1]})
        page.key("Enter")
        page.wait_saved()
        boxes_of = {
            name: page.tab.locator(name).bounding_box()
            for name in (".tools", "#stage", ".timeline", "header", ".panel")
        }
        for name, box in boxes_of.items():
            assert box["x"] >= 0, name
            assert box["y"] >= 0, name
            assert box["x"] + box["width"] <= size[0] + 0.5, name
            assert box["y"] + box["height"] <= size[1] + 0.5, name
        check_separate(boxes_of)
        assert (
            page.tab.evaluate(
                "[...document.querySelectorAll('button, input')].filter((b) => b.offsetParent && "
                "!(b.textContent.trim() || b.getAttribute('aria-label') || b.labels?.length)).length"
            )
            == 0
        )
        page.tab.close()


def test_a_window_that_is_too_low_scrolls(tmp_path: Path, browser: Any) -> None:
    make_clip(tmp_path, frames=4)
    with command(tmp_path, "track", "demo.mp4", "--prompt", "box") as run:
        page = Page(browser, run.address)
        for width, height in ((844, 390), (1280, 400)):  # a phone on its side, a low window
            page.tab.set_viewport_size({"width": width, "height": height})
            page.tab.locator("#add").scroll_into_view_if_needed()
            check_separate(
                {name: page.tab.locator(name).bounding_box() for name in ("#stage", ".timeline", ".panel")}
            )
            page.tab.click("#add")
            page.tab.locator("#track").scroll_into_view_if_needed()
            box = page.tab.locator("#track").bounding_box()
            assert 0 < box["y"] < box["y"] + box["height"] <= height
        page.tab.close()


def test_a_preview_follows_the_drag(tmp_path: Path, browser: Any, record_property: Any) -> None:
    """From the end of the drag to the mask on the screen on 720p: tenths of a second, more on a loaded machine."""
    boxes = make_clip(tmp_path, 3, 1280, 720)
    with command(tmp_path, "track", "demo.mp4", "--prompt", "box") as run:
        page = Page(browser, run.address)
        for k in range(5):
            x1, y1, x2, y2 = boxes[k % 3]
            page.drag(x1 - k - 1, y1 - 2, x2 + 2, y2 + k + 1)
            wait_until(lambda k=k: page.tab.evaluate("samvideo.pictures.previewTimes.length") > k)
        times = page.tab.evaluate("samvideo.pictures.previewTimes")
        page.tab.close()
    record_property("preview_milliseconds", statistics.median(times))
    assert len(times) == 5
    assert 0 < statistics.median(times) < 3000
