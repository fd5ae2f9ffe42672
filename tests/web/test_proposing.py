"""Objects that the page proposes: what is found, taken, refused, and what a slow search must not hold up."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_helpers import Page, command, make_clip, wait_until
from page_site import SIZE, Site, serve_page

from samvideo.demo import demo_frames
from samvideo.errors import WeightsError
from samvideo.io.masks import read_mask_objects
from samvideo.prompters.base import MaskProposal
from samvideo.search_settings import MOST
from samvideo.segmenters.base import Segmenter
from samvideo.segmenters.factory import load_segmenter
from samvideo.segmenters.grabcut import GrabCutSegmenter
from samvideo.trackers.stills import StillSegmenter
from samvideo.types import Frame
from samvideo.web import proposing
from samvideo.web.outlines import outlines
from samvideo.web.proposing import Proposing, Texts, make_prompter
from tests.scenes import overlap

WIDTH, HEIGHT = SIZE


def block(x: int, y: int, side: int = 16) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + side, x : x + side] = True
    return mask


class Found:
    """A prompter that finds the same masks everywhere, once it may go on; texts become labels in turn."""

    def __init__(self, *masks: np.ndarray) -> None:
        self.masks, self.texts, self.asked = masks, None, 0
        self.may_go_on, self.began = threading.Event(), threading.Event()
        self.may_go_on.set()

    def __call__(self, segmenter: Segmenter, texts: Texts) -> "Found":
        self.texts = texts
        return self

    def propose(self, rgb: Any) -> list[MaskProposal]:
        self.asked += 1
        self.began.set()
        assert self.may_go_on.wait(60)
        label = self.texts[0] if self.texts else None
        whole = 0.0, 0.0, float(WIDTH), float(HEIGHT)
        return [MaskProposal(mask, 0.9, float("nan"), None, whole, label) for mask in self.masks]


def propose(site: Site, **what: Any) -> tuple[int, Any]:
    status, _, body = site.post("/api/propose", what)
    return status, json.loads(body) if body else None


def test_proposals_are_taken_as_one_step_and_not_found_again() -> None:
    first, second = block(8, 8), block(60, 40)
    with serve_page(Found(first, second, block(60, 42, 8))) as site:
        status, answer = propose(site, frame=2)
        assert (status, answer["frame"]) == (200, 2)
        assert [one["shapes"] for one in answer["found"]] == [outlines(first, SIZE), outlines(second, SIZE)]
        status, state = site.edit(do="take", key=answer["key"], rows=[1, 0])
        assert (status, state["object"]) == (200, 1)
        assert [one["name"] for one in state["objects"]] == ["Object 1", "Object 2"]
        drawn = site.project.annotations.current.drawn
        assert (drawn[2, 1].mask == second).all()
        assert (drawn[2, 2].mask == first).all()
        assert propose(site, frame=2)[1]["found"] == []
        assert len(propose(site, frame=3)[1]["found"]) == 2, "nothing is drawn there"
        assert site.edit(do="undo")[1]["objects"] == []
        assert len(propose(site, frame=2)[1]["found"]) == 2


def test_names_become_labels_and_names_of_objects() -> None:
    found = Found(block(8, 8))
    with serve_page(found) as site:
        answer = propose(site, frame=0, texts=" red ball;person")[1]
        assert found.texts == ("red ball", "person")
        assert answer["found"][0]["label"] == "red ball"
        assert site.edit(do="take", key=answer["key"], rows=[0])[1]["objects"] == [{"id": 1, "name": "red ball"}]
        assert site.project.annotations.current.labels == {1: "red ball"}


def test_their_number_is_bounded() -> None:
    many = Found(*(block(x, y, 8) for x in range(0, 152, 12) for y in range(0, 88, 12)))
    with serve_page(many) as site:
        answer = propose(site, frame=0)[1]
        assert len(answer["found"]) == MOST < len(many.masks)
        assert site.edit(do="take", key=answer["key"], rows=list(range(MOST)))[0] == 200


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve_page(Found(block(8, 8))) as served:
        yield served


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"frame": 6}, "no frame 6: 0 to 5"),
        ({"frame": -1}, "frame: "),
        ({"frame": True}, "frame: "),
        ({}, "frame: Field required"),
        ({"frame": 0, "texts": " ; "}, "no text to look for"),
        ({"frame": 0, "texts": "x" * 101}, "1 to 100 printable"),
        ({"frame": 0, "texts": "x" * 1001}, "texts: String should have at most 1000"),
        ({"frame": 0, "texts": ["ball"]}, "texts: "),
        ({"frame": 0, "prompter": "grid"}, "prompter: Extra"),
    ],
)
def test_wrong_requests_are_refused(site: Site, what: dict[str, Any], message: str) -> None:
    status, answer = propose(site, **what)
    assert status == 400
    assert message in answer["error"]


def test_wrong_proposals_cannot_be_taken(site: Site) -> None:
    key = propose(site, frame=0)[1]["key"]
    for what, message in (
        ({"key": 9999, "rows": [0]}, "out of date: propose again"),
        ({"key": key, "rows": [1]}, "no proposal 1: 0 to 0"),
        ({"key": key, "rows": []}, "rows: "),
        ({"key": key, "rows": [0] * 65}, "rows: "),
        ({"key": key, "rows": [-1]}, "rows.0: "),
    ):
        status, answer = site.edit(do="take", **what)
        assert status == 400
        assert message in answer["error"]
    for _ in range(proposing.KEPT):
        assert propose(site, frame=0)[0] == 200
    assert "out of date" in site.edit(do="take", key=key, rows=[0])[1]["error"]
    assert not site.project.annotations.current.names


def test_without_the_libraries_there_is_no_search_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samvideo.web.project.find_spec", lambda name: None)
    with serve_page(Found(block(8, 8))) as site:
        assert json.loads(site.get("/api/facts")[2])["by_name"] is False
        assert "samvideo[detect]" in propose(site, frame=0, texts="ball")[1]["error"]
        assert propose(site, frame=0)[0] == 200


def test_a_detector_that_cannot_be_loaded_is_an_answer() -> None:
    def fail(segmenter: Segmenter, texts: Texts) -> Any:
        raise WeightsError("no network")

    with serve_page(fail) as site:
        assert propose(site, frame=0, texts="ball") == (400, {"error": "no network"})


def test_a_slow_search_holds_up_nothing_and_the_newest_waits_alone() -> None:
    slow = Found(block(8, 8))
    slow.may_go_on.clear()
    with serve_page(slow) as site, ThreadPoolExecutor(3) as pool:
        running = pool.submit(propose, site, frame=0, texts="ball")
        assert slow.began.wait(30)
        waiting = [pool.submit(propose, site, frame=frame, texts="ball") for frame in (1, 2)]
        wait_until(lambda: any(one.done() for one in waiting))  # the newest of the two sent the other one away
        assert site.get("/api/frames/4")[0] == 200
        assert site.edit(do="add")[0] == 200
        slow.may_go_on.set()
        assert sorted(one.result()[0] for one in (running, *waiting)) == [200, 200, 204]
        assert slow.asked == 2


def test_the_end_does_not_wait_for_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposing, "GRACE", 0.1)
    slow = Found(block(8, 8))
    slow.may_go_on.clear()
    with ThreadPoolExecutor(1) as pool:
        with serve_page(slow) as site:
            asking = pool.submit(propose, site, frame=0)
            assert slow.began.wait(30)
        assert asking.result() == (204, None)
        slow.may_go_on.set()


def test_everything_is_found_by_the_bundled_model_or_that_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(segmenter: Segmenter) -> list[np.ndarray]:
        answer = Proposing(make_prompter, lambda: segmenter)
        proposals = answer.propose(Frame(0, 0.0, rgb), None, lambda: np.zeros(rgb.shape[:2], bool))
        assert proposals
        return answer.take(proposals.key, range(len(proposals.found))).masks

    rgb, truths = next(iter(demo_frames(1, (320, 180))))
    bundled = found(GrabCutSegmenter())
    assert all(max(overlap(mask, truth) for mask in bundled) >= 0.6 for truth in truths)
    own = load_segmenter("nano")
    monkeypatch.setattr(proposing, "load_segmenter", None)  # not needed
    assert all((one == other).all() for one, other in zip(found(StillSegmenter(own)), bundled, strict=True))


def test_propose_take_drop_and_track(tmp_path: Path, browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    boxes = make_clip(tmp_path)
    x, y = (boxes[0][0] + boxes[0][2]) / 2, (boxes[0][1] + boxes[0][3]) / 2
    with command(tmp_path, "track", "demo.mp4", "--prompt", "box", "-o", "out") as run:
        page = Page(browser, run.address)
        count = lambda: len(page.state()["objects"])  # noqa: E731
        page.tab.click("#propose")
        wait_until(lambda: "found" in page.tab.text_content("#proposals-text"))
        assert not page.complaints, page.tab.text_content("#errors")
        proposed = page.tab.locator("#proposal-list button").count()
        row = page.tab.evaluate("([x, y]) => samvideo.stage.proposals.at([x, y])", [x, y])
        assert row >= 0
        button = page.tab.locator("#proposal-list button").nth(row)
        for pressed in ("true", "false", "true"):
            page.click(x, y)
            wait_until(lambda pressed=pressed: button.get_attribute("aria-pressed") == pressed)
            assert count() == (pressed == "true")
        page.key("Control+z")
        wait_until(lambda: button.get_attribute("aria-pressed") == "false")
        page.key("Control+Shift+z")
        wait_until(lambda: button.get_attribute("aria-pressed") == "true")
        taken = page.state()["objects"][0]["id"]
        page.outlines(0, taken, "preview")
        page.tab.click("#take-all")
        wait_until(lambda: count() == proposed)
        page.key("Control+z")
        wait_until(lambda: count() == 1)
        assert page.tab.locator("#proposals").is_visible()
        page.tab.focus("#stage")
        page.key("Escape")
        assert not page.tab.locator("#proposals").is_visible()
        if page.tab.evaluate("samvideo.model.facts.by_name"):
            page.tab.fill("#texts", "ball")
            page.key("Enter")
            page.tab.wait_for_selector("#errors li")
            assert "cannot be loaded" in page.tab.text_content("#errors li")
        page.tab.click("#track")
        page.wait_saved()
        page.finish()
        assert run.ended() == 0
        assert all("400" in said for said in page.complaints), page.complaints
        page.tab.close()
    for index, (_, truths) in enumerate(islice(demo_frames(24, (320, 180)), 6)):
        masks = read_mask_objects(tmp_path / "out" / "masks" / f"{index:05d}.png")
        assert masks.keys() == {taken}
        assert overlap(masks[taken], truths[0]) >= 0.6
