"""`samvideo.notebook`: the page in a notebook, and its results as Python objects."""

import json
import os
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from notebook_site import DEMO, executed, served
from page_helpers import FramedPage, request, wait_until

from samvideo import Box, FrameResult, Points, track
from samvideo.demo import demo_frames
from samvideo.errors import ConfigError, PromptError, SamVideoError, VideoError
from samvideo.io.tracks import open_masks
from samvideo.notebook import NotebookPage, annotate, show
from samvideo.trackers.flow import FlowTracker
from samvideo.web.run import PageRun
from tests.clips import write_clip

IPython = pytest.importorskip("IPython")
BOX = (30.0, 20.0, 70.0, 60.0)


@pytest.fixture
def cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What a notebook's cells display, in a folder with clip.mp4; pages are closed at the end."""
    write_clip(tmp_path / "clip.mp4", 12)
    monkeypatch.chdir(tmp_path)
    displayed: list[Any] = []
    opened: list[NotebookPage] = []
    start = NotebookPage.start

    def noted(page: NotebookPage, *args: Any) -> None:
        opened.append(page)
        start(page, *args)

    monkeypatch.setattr(NotebookPage, "start", noted)
    monkeypatch.setattr(IPython, "get_ipython", lambda: types.SimpleNamespace(kernel=object()))
    monkeypatch.setattr(IPython.display, "display", displayed.append)
    yield displayed
    for page in opened:
        page.close()


def post(page: NotebookPage, path: str, **value: Any) -> Any:
    """A request of the page in the browser."""
    parts = urlsplit(page.address)
    status, _, body = request(
        page.address, f"{parts.path}api/{path}", "POST", json.dumps(value).encode(), Content_Type="application/json"
    )
    assert status in (200, 204), body
    return json.loads(body or "null")


def settled(page: NotebookPage) -> None:
    """Wait until everything is tracked and its files are written."""
    wait_until(lambda: page._project.status.files and not page._project.status.saving and not page._run._unsaved)


def test_results_come_back_as_python_objects(cell: list[Any], tmp_path: Path) -> None:
    page = annotate("clip.mp4", [Box(BOX, label="ball")], model="flow", save=["rle", "csv"])
    assert [type(shown).__name__ for shown in cell] == ["IFrame"]
    assert cell[0].src == page.address
    assert not page.wait(0.05)
    os.chdir("/")  # a later cell may go elsewhere
    assert page.run_folder == tmp_path / "clip_tracked"
    assert page.result(3).object_ids == ()
    assert list(page.masks(0)) == [1]  # the preview
    post(page, "edit", do="add", name="")
    post(page, "edit", do="click", frame=2, object=2, xy=[100, 60], label=1)
    post(page, "command", kind="track")
    settled(page)
    box, click = page.prompts
    assert (box.object_id, box.frame, box.label) == (1, 0, "ball")
    assert isinstance(click, Points)
    assert (click.object_id, click.frame, click.label) == (2, 2, None)
    expected = list(track(tmp_path / "clip.mp4", page.prompts, model=FlowTracker()))
    for result, other in zip(page, expected, strict=True):
        assert (result.index, result.object_ids) == (other.index, other.object_ids)
        assert result.seconds == pytest.approx(other.seconds)
        assert np.array_equal(result.masks, other.masks)
        assert result.labels == {1: "ball"}
    assert np.array_equal(page.masks(7)[2], page.result(7).mask(2))
    assert [frame.index for frame in open_masks(page.run_folder)] == list(range(12))
    post(page, "command", kind="finish")
    assert page.wait(30)
    assert page.result(11).object_ids == (1, 2)
    assert "2 prompts, 12 frames tracked" in repr(page)
    page.show()
    assert cell[1].src == page.address


def test_closing_the_browser_ends_nothing_and_close_ends_all(
    cell: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samvideo.web.open_pages.AFTER_GOODBYE", 0.05)
    page = annotate("clip.mp4", [Box(BOX)], model="flow", save=["rle"])
    post(page, "command", kind="track")
    settled(page)
    post(page, "leave")
    assert not page.wait(0.5)
    post(page, "edit", do="rename", object=1, name="cup")
    settled(page)
    assert open_masks(page.run_folder).labels() == {1: "cup"}
    page.close()
    page.close()
    assert len(page.prompts) == 1
    for look in (lambda: page.result(0), lambda: page.masks(0), lambda: list(page), lambda: page.frame(0)):
        with pytest.raises(ConfigError, match=r"the page is closed: read its results in .*clip_tracked"):
            look()
    with pytest.raises(ConnectionRefusedError):
        request(page.address, "/")
    annotate("clip.mp4", model="flow", overwrite=True)  # the folder is free again


def test_what_was_tracked_is_written_when_the_page_is_closed(
    cell: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(Path("long.mp4"), 400)
    page = annotate("long.mp4", [Box(BOX)], model="flow", save=["rle"])
    post(page, "command", kind="track")
    wait_until(lambda: page.result(3).object_ids)
    page.close()
    count = len(list(open_masks(page.run_folder)))
    assert 4 <= count < 400
    assert json.loads((page.run_folder / "run.json").read_text())["status"] == "interrupted"


def test_what_cannot_be_used_is_refused(cell: list[Any], tmp_path: Path) -> None:
    page = annotate("clip.mp4", model="flow")
    port = urlsplit(page.address).port
    cases: list[tuple[type[SamVideoError], str, dict[str, Any]]] = [
        (VideoError, "nothing.mp4", {"video": "nothing.mp4"}),
        (ConfigError, "the path of a file or of a folder of images expected", {"video": np.zeros((4, 4, 3))}),
        (ConfigError, r"writes into clip_tracked: close it \(`page.close\(\)`\), or .* out=", {"out": None}),
        (ConfigError, rf"port {port} .*choose another port=", {"port": port}),
        (ConfigError, "no model 'sam9'", {"model": "sam9"}),
        (ConfigError, r"'/proxy/': an address with \{port\} expected", {"proxy": "/proxy/"}),
        (ConfigError, "is not empty: .*overwrite=True", {"out": tmp_path}),
        (PromptError, "0 to 11 expected", {"prompts": [Box(BOX, frame=12)]}),
    ]
    for kind, message, given in cases:
        with pytest.raises(kind, match=message) as caught:
            annotate(**{"video": "clip.mp4", "model": "flow", "out": "other", **given})
        assert "During handling" not in (shown := "".join(traceback.format_exception(caught.value))), message
        assert "direct cause" not in shown, message
        assert not Path("other").exists(), message
    assert len(cell) == 1
    with pytest.raises(PromptError, match="no frame 12: 0 to 11 expected"):
        page.result(12)


def test_outside_of_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"not a notebook.*samvideo ui VIDEO"):
        annotate("clip.mp4")
    monkeypatch.setattr("samvideo.notebook.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'samvideo\[notebook\]'"):
        annotate("clip.mp4")


def test_where_the_page_is_shown(cell: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    page = annotate("clip.mp4", model="flow", proxy="/user/me/proxy/{port}/", height=500)
    parts = urlsplit(page.address)
    assert (cell[0].src, cell[0].height) == (f"/user/me/proxy/{parts.port}{parts.path}", 500)
    page.close()
    calls: list[Any] = []
    colab, output = types.ModuleType("google.colab"), types.ModuleType("google.colab.output")
    output.serve_kernel_port_as_iframe = lambda *args, **named: calls.append((args, named))  # type: ignore[attr-defined]
    colab.output = output  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    page = annotate("clip.mp4", model="flow")
    parts = urlsplit(page.address)
    assert calls == [((parts.port,), {"path": parts.path, "height": "720"})]
    assert len(cell) == 1


def test_the_token_in_the_path_lets_in_whatever_embeds_the_page(cell: list[Any]) -> None:
    page = annotate("clip.mp4", model="flow")
    path = urlsplit(page.address).path
    elsewhere = {"Host": "me.colab.example", "Origin": "https://hub.example", "Sec_Fetch_Site": "cross-site"}
    status, headers, body = request(page.address, path, **elsewhere)
    assert status == 200
    assert "frame-ancestors" not in headers["content-security-policy"]
    assert "x-frame-options" not in headers
    assert "set-cookie" not in headers
    assert not any(absolute in body for absolute in (b'src="/', b'href="/'))
    assert request(page.address, f"{path}static/main.js", **elsewhere)[0] == 200
    assert request(page.address, f"{path}static/../../etc/passwd")[0] == 404
    token = path.strip("/")
    for wrong in (
        "/",
        "/static/main.js",
        f"/?token={token}",
        f"/{token[:-1]}/",
        f"/x{path}",
        "/%FF/",
        "//api/facts",
    ):
        status, _, body = request(page.address, wrong)
        assert (status, b"token" in body) == (403, True), wrong


def test_an_unexpected_error_reaches_the_notebook(cell: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(run: PageRun) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(PageRun, "until_done", fail)
        page = annotate("clip.mp4", model="flow")
    with pytest.raises(RuntimeError, match="broken"):
        page.wait()
    with pytest.raises(RuntimeError, match="broken"):
        page.close()
    with pytest.raises(ConnectionRefusedError):
        request(page.address, "/")


def test_a_result_is_shown_over_its_frame(cell: list[Any]) -> None:
    rgb = next(iter(demo_frames(1, (160, 96))))[0]
    mask = np.zeros((1, 96, 160), bool)
    mask[0, 20:60, 30:90] = True
    result = FrameResult(0, 0.0, (1,), mask, np.ones(1, np.float32), np.ones(1, bool))
    show(rgb, result)
    picture = cv2.imdecode(np.frombuffer(cell[0].data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    change = np.abs(picture - rgb).mean(-1)
    assert change[30:50, 40:80].mean() > 30 > 10 > change[70:, 100:].mean()
    with pytest.raises(ConfigError, match="the frame is 160x48: 160x96 expected"):
        show(rgb[::2].copy(), result)


@pytest.mark.long
def test_the_example_notebook(tmp_path: Path, browser: Any) -> None:
    for library in ("ipykernel", "nbclient"):
        pytest.importorskip(library)
    with executed(DEMO, tmp_path) as notebook:
        numbers = [k for k, each in enumerate(notebook.cells) if each["cell_type"] == "code"]
        assert all(not notebook.cells[k]["outputs"] for k in numbers)
        clip, shown, wait, prompts, results, masks, again, close = numbers
        notebook.run(clip)
        html = notebook.run(shown)[-1]["text/html"]
        waiting = notebook.begin(wait)
        with served(html) as address:
            tab = browser.new_page()
            tab.goto(address)
            page = FramedPage(tab)
            entries = json.loads((tmp_path / "demo.prompts.json").read_text())["prompts"]
            page.drag(*entries[0]["box"])
            page.outlines(0, 1, "preview")
            page.tab.click("#track")
            page.wait_saved()
            assert not waiting.done()
            page.tab.click("#finish")
            page.tab.wait_for_selector("#done[open]")
            assert not page.tab.is_visible("#end")
            assert waiting.result(60)["outputs"][0]["data"]["text/plain"] == "True"
            assert "Box(object_id=1, frame=0" in notebook.run(prompts)[0]["text/plain"]
            assert sum("image/jpeg" in output for output in notebook.run(results)) == 3
            areas = eval(notebook.run(masks)[0]["text/plain"])
            assert areas.keys() == {1}
            assert areas[1] > 500
            assert notebook.run(again)[0]["text/plain"] == "24"
            assert "run.json" in notebook.run(close)[0]["text/plain"]
            page.tab.wait_for_selector("text=The notebook has closed this page")
            tab.close()


@pytest.mark.long
def test_the_server_ends_with_the_kernel(tmp_path: Path) -> None:
    for library in ("ipykernel", "nbclient"):
        pytest.importorskip(library)
    write_clip(tmp_path / "clip.mp4", 6)
    nbformat = pytest.importorskip("nbformat")
    code = "from samvideo.notebook import annotate\npage = annotate('clip.mp4', model='flow')\nprint(page.address)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbformat.write(notebook, tmp_path / "clip.ipynb")
    with executed(tmp_path / "clip.ipynb", tmp_path) as kernel:
        address = next(out["text/plain"] for out in kernel.run(0) if "http" in out.get("text/plain", "")).strip()
        assert request(address, urlsplit(address).path)[0] == 200
    with pytest.raises(ConnectionRefusedError):
        request(address, "/")
    assert not (tmp_path / "clip_tracked").exists()
