"""The page of demos/browser finds the masks that Python finds with the same export."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_helpers import find_chromium, open_browser, wait_until
from PIL import Image
from tiny_sam import clip, tiny_model

from samvideo.object_prompts import group_prompts
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Points, Prompt

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from samvideo.deploy.bundle import export_model
from samvideo.deploy.onnx_runtime import open_onnx

DEMO = Path(__file__).parents[2] / "demos" / "browser"
FRAMES = 12

pytestmark = pytest.mark.long

COLLECT = """async () => {
    const {resized} = await import("./pictures.js");
    const mask = (logits) => Array.from(resized(logits, [16, 16], [64, 64]), (logit) => Number(logit > 0));
    window.plain = (objects) => objects.map((found) => (
        {...found, logits: [...found.logits], mask: mask(found.logits)}
    ));
    window.found = [];
    document.addEventListener("frame", ({detail}) => found.push({...detail, objects: plain(detail.objects)}));
}"""
"""Keeps what the page finds on each frame, in values that can be read from here."""


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (DEMO / "vendor").is_dir():
        pytest.skip("ONNX Runtime Web is missing: python demos/browser/fetch.py")
    model = tiny_model(policy="fifo:frames=3,prompted=2", occlusion_embedding=True, pointer_time_encoding=True)
    return export_model(model, tmp_path_factory.mktemp("export") / "tiny", objects=2)


@pytest.fixture(scope="module")
def address(export: Path) -> Iterator[str]:
    line = [sys.executable, DEMO / "serve.py", export, "0"]
    server = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout
    yield server.stdout.readline().strip()
    server.kill()
    server.wait()
    server.stdout.close()


@pytest.fixture
def tab(address: str) -> Iterator[Any]:
    pytest.importorskip("playwright")
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with open_browser(executable) as context:
        page = context.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        page.evaluate(COLLECT)
        wait_until(lambda: page.is_enabled("#files") or complaints)
        yield page
        assert not complaints


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{frame.index}.png" for frame in clip(FRAMES)]
    for path, frame in zip(paths, clip(FRAMES), strict=True):
        Image.fromarray(frame.rgb).save(path)
    return paths


def check_equal(export: Path, prompts: dict[int, list[Prompt]], found: list[dict[str, Any]]) -> None:
    """The page's results on each frame are those of Python."""
    tracker = SamTracker(open_onnx(export, threads=1))
    for frame, ours in zip(clip(FRAMES), found, strict=True):
        result = tracker.step(frame, prompts.get(frame.index, []))
        assert [entry["id"] for entry in ours["objects"]] == list(result.object_ids)
        for row, entry in enumerate(ours["objects"]):
            expected = tracker.objects[entry["id"]].best.known_prediction.logits
            logits = np.array(entry["logits"], np.float32).reshape(expected.shape)
            assert np.linalg.norm(logits - expected) <= 1e-3 * np.linalg.norm(expected), frame.index
            mask = np.array(entry["mask"], bool).reshape(result.masks[row].shape)
            assert (mask & result.masks[row]).sum() >= 0.999 * (mask | result.masks[row]).sum()
            assert abs(entry["score"] - result.scores[row]) <= 1e-3
            assert entry["present"] == result.present[row]


def test_boxes_drawn_on_the_page(export: Path, tab: Any, pictures: list[Path]) -> None:
    tab.set_input_files("#files", pictures)
    wait_until(lambda: "draw a box" in tab.inner_text("#status"))
    stage = tab.locator("#stage").bounding_box()
    for count, box in enumerate([(8, 20, 36, 48), (60, 50, 40, 30), (2, 2, 20, 25)], 1):
        tab.mouse.move(stage["x"] + box[0], stage["y"] + box[1])
        tab.mouse.down()
        tab.mouse.move(stage["x"] + box[2], stage["y"] + box[3])
        tab.mouse.up()
        wait_until(lambda count=count: len(tab.evaluate("found")) == count)
    tab.click("#track")
    wait_until(lambda: tab.evaluate("found.length") == 3 + FRAMES - 1)
    found = tab.evaluate("found")
    prompts = [prompt for step in found[:3] for prompt in step["prompts"]]
    assert np.allclose(prompts[1]["xy"], [40, 30, 60, 50])
    boxes: list[Prompt] = [Box(tuple(prompt["xy"]), object_id=prompt["id"]) for prompt in prompts]
    check_equal(export, {0: boxes}, found[2:])


LOOP = """async ({frames, prompts}) => {
    const {Tracker, openModel} = await import("./tracker.js");
    const ort = await import("./vendor/ort.wasm.bundle.min.mjs");
    const tracker = new Tracker(await openModel(ort, new URL("model/", location.href)));
    const found = [];
    for (const [index, rgb] of frames.entries()) {
        found.push({objects: plain(await tracker.step(index, Uint8Array.from(rgb), prompts[index] ?? []))});
    }
    return found;
}"""


def test_clicks_corrections_and_expiry(export: Path, tab: Any) -> None:
    prompts: dict[int, list[Prompt]] = {
        0: [Box((10, 10, 40, 40), object_id=1)],
        2: [Points([[30.0, 30.0]], [1], object_id=2)],
        5: [Points([[20.0, 20.0], [35.0, 33.0]], [0, 1], object_id=1)],
        7: [Points([[50.0, 20.0]], [0], object_id=1)],
    }
    theirs = {
        str(index): [
            {"id": p.object_id, "xy": p.points[0].ravel().tolist(), "labels": p.points[1].tolist()}
            for p in group_prompts(given, (), (64, 64))
        ]
        for index, given in prompts.items()
    }
    frames = [frame.rgb.ravel().tolist() for frame in clip(FRAMES)]
    found = tab.evaluate(LOOP, {"frames": frames, "prompts": theirs})
    check_equal(export, prompts, found)
