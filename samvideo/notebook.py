"""The page of `samvideo ui` in a notebook, with its results as Python objects.

::

    page = annotate("video.mp4")

    page.wait()  # in another cell: until Finish is pressed
    for result in page:
        show(page.frame(result.index), result)

Threads: the caller's executes cells, one of a `NotebookPage` tracks, and the page's server has its own.
"""

import atexit
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from samvideo.errors import ConfigError, SamVideoError, shown
from samvideo.io.base import Closing
from samvideo.outputs import default_kinds
from samvideo.render import overlay
from samvideo.run import RunSettings
from samvideo.trackers.factory import choose, create_segmenter, create_tracker
from samvideo.trackers.specs import TrackerOptions
from samvideo.types import BoolArray, Frame, FrameResult, Prompt, UInt8Array, image_wh
from samvideo.web.annotations import check_frame
from samvideo.web.frames import jpeg
from samvideo.web.run import PageEnd, PageRun, PageSettings, open_page
from samvideo.weights.naming import split_name

log = logging.getLogger(__name__)

SHOWN_WIDTH = 1280  # of the longer side of images in a notebook, which keeps them in its file
# Remedies of the command line, and those of Python.
REMEDIES = {
    "--overwrite": "overwrite=True",
    " with -o": "",
    "choose another folder": "choose another folder with out=",
    "--port or --host": "port=",
    "another samvideo process writes into": "another page, or another process, writes into",
    "wait for it": "close it (`page.close()`)",
    "give coordinates, for instance --prompt box=40,60,200,220": "use samvideo.track",
}


@dataclass(frozen=True)
class Placement:
    """Where the page is shown; see `annotate`."""

    proxy: str | None
    height: int

    def __post_init__(self) -> None:
        if self.proxy is not None and "{port}" not in self.proxy:
            raise ConfigError(
                f"proxy is {shown(self.proxy)}: an address with {{port}} expected, such as '/proxy/{{port}}/'"
            )


def annotate(
    video: str | os.PathLike[str],
    prompts: Sequence[Prompt] = (),
    *,
    model: str = "auto",
    device: str = "auto",
    out: str | os.PathLike[str] | None = None,
    save: Sequence[str] | None = None,
    overwrite: bool = False,
    port: int | None = None,
    proxy: str | None = None,
    height: int = 720,
) -> "NotebookPage":
    """Show the page below the cell, to mark, track and correct objects in a video.

    The cell ends at once. The page goes on until it is closed by `NotebookPage.close` or the kernel ends.

    Args:
        video: a file or a folder of images.
        prompts: are shown as annotations that can be changed.
        model: a name that `samvideo models` lists, NAME=FILE, or "auto", see `samvideo.trackers.factory.choose`.
        device: auto, cpu, cuda or mps.
        out: the run's folder, NAME_tracked by default.
        save: what to write there, of overlay, masks, rle and csv; all by default.
        overwrite: replace the results of an earlier run in the folder.
        port: of the page's server; by default 8765 or any that is free.
        proxy: where the browser reaches a port of the kernel's machine if that is another one, with `{port}`:
            "/proxy/{port}/" with jupyter-server-proxy.
        height: of the page in pixels.

    Raises:
        ConfigError: this is not a notebook, the folder holds results or is in use, or the port is taken.
        SamVideoError: the video, a prompt, or the model's weights cannot be used. No page is left behind.
    """
    _check_notebook()
    placement, source = Placement(proxy, height), _absolute(video)
    folder = None if out is None else Path(out).absolute()
    kinds = tuple(default_kinds(source) if save is None else save)
    settings = RunSettings(
        source, model, {"device": device}, folder, kinds, prompts=tuple(prompts), overwrite=overwrite
    )
    with ExitStack() as stack:
        page = NotebookPage(stack.enter_context(_open(settings, port)), placement)
        page.show()
        page.start(stack.pop_all())
    return page


@contextmanager
def _open(settings: RunSettings, port: int | None) -> Iterator[PageRun]:
    """Open the page with the model that the settings name, its results in an absolute folder."""
    device = settings.options["device"] or "auto"
    name, weights = split_name(settings.model, None)
    name = choose(name, weights=weights, device=device).tracker.name
    options = {**settings.options, "weights": str(weights) if weights else None}
    page = PageSettings("box", "127.0.0.1", port, log.info, embedded=True)
    tracker = partial(create_tracker, name, weights=weights, device=device)
    segmenter = partial(create_segmenter, name, TrackerOptions(weights=weights, device=device))
    with ExitStack() as stack:
        try:
            run = stack.enter_context(
                open_page(replace(settings, model=name, options=options), page, tracker, segmenter, _NoProgress)
            )
        except SamVideoError as error:
            raise type(error)(_in_python(str(error))) from None  # the original has the command line's remedies
        run.settings = replace(run.settings, out=run.settings.folder(run.project.media.info).absolute())
        yield run


class NotebookPage(Closing):
    """The page that `annotate` shows, and its results: the frames that have some, when iterated.

    Args:
        run: of an open page.
        placement: where it is shown.

    Attributes:
        address: of the page in a browser on this machine, with its token.
        run_folder: where the files are, once something was tracked; they are rewritten after every change.
    """

    def __init__(self, run: PageRun, placement: Placement) -> None:
        self._run, self._placement = run, placement
        self._project = run.project
        self.address = run.address
        self.run_folder = run.settings.folder(self._project.media.info)
        self._end: futures.Future[PageEnd] = futures.Future()
        self._resources = ExitStack()
        self._closed = False

    def start(self, resources: ExitStack) -> None:
        """Begin to track when the page asks for it; `resources` are closed with the page."""
        self._resources = resources
        threading.Thread(target=self._track, name="samvideo-notebook", daemon=True).start()
        atexit.register(self.close)

    def _track(self) -> None:
        try:
            self._end.set_result(self._run.until_done())
        except BaseException as error:  # raised by `wait` and `close`
            self._end.set_exception(error)

    def show(self) -> None:
        """Show the page, once more, below the cell that is executed."""
        from IPython.display import IFrame, display

        parts = urlsplit(self.address)
        height = self._placement.height
        if self._placement.proxy is not None:
            base = self._placement.proxy.format(port=parts.port).rstrip("/")
            display(IFrame(base + parts.path, "100%", height))
        elif _in_colab():
            from google.colab import output

            output.serve_kernel_port_as_iframe(parts.port, path=parts.path, height=str(height))
        else:
            display(IFrame(self.address, "100%", height))

    @property
    def prompts(self) -> list[Prompt]:
        """Everything drawn, with frames, object ids and labels: what `samvideo.track` takes."""
        now = self._project.annotations.current
        return [
            replace(prompt, frame=frame, label=now.labels.get(object_id))
            for frame, here in now.by_frame().items()
            for object_id, annotation in here.items()
            for prompt in annotation.prompts(object_id)
        ]

    def frame(self, index: int) -> Frame:
        """A frame of the video. Raises PromptError if there is none, ConfigError after `close`."""
        self._check(index)
        return self._project.media.exact(index)

    def result(self, index: int) -> FrameResult:
        """What was tracked on a frame; no objects where nothing was. Errors as of `frame`."""
        return self._result(self.frame(index))

    def masks(self, index: int) -> dict[int, BoolArray]:
        """The masks, bool (H, W), that the page shows on a frame, previews too, by object. Errors as of `frame`."""
        self._check(index)
        while self._project.masks(index) is None:  # a browser asked meanwhile; this makes the previews
            pass
        ids = self._project.annotations.current.names
        masks = {object_id: self._project.shown_mask(index, object_id) for object_id in ids}
        return {object_id: mask for object_id, mask in masks.items() if mask.any()}

    def __iter__(self) -> Iterator[FrameResult]:
        self._check()
        with self._run.settings.open_source() as video:
            for frame in video:
                if frame.index in self._project.results.frames():
                    yield self._result(frame)

    def _result(self, frame: Frame) -> FrameResult:
        now = self._project.annotations.current
        return replace(self._project.results.take(frame, set(now.names)), labels=now.labels)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until Finish is pressed; False if it was not within some seconds.

        Raises:
            SamVideoError: the files could not be written.
        """
        futures.wait([self._end], seconds)
        if not self._end.done():
            return False
        failure = self._end.result().failure
        if failure is not None:
            raise failure
        return True

    def close(self) -> None:
        """End the page, and free the model; what was tracked is in the files. Raises as `wait`."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        self._run.stop()
        try:
            self.wait()
        finally:
            self._resources.close()

    def _check(self, index: int = 0) -> None:
        if self._closed:
            raise ConfigError(
                f"the page is closed: read its results in {self.run_folder}, by samvideo.io.tracks.open_masks"
            )
        check_frame(index, self._project.media.count)

    def __repr__(self) -> str:
        name, drawn = self._project.facts.name, len(self.prompts)
        if self._closed:
            return f"<page of {name}, closed; {drawn} prompts; run folder {self.run_folder}>"
        tracked = len(self._project.results.frames())
        return f"<page of {name} at {self.address}; {drawn} prompts, {tracked} frames tracked>"


class _NoProgress(AbstractContextManager["_NoProgress"]):
    """For a run whose page shows its progress."""

    def __init__(self, name: str, total: int | None) -> None:
        pass

    def advance(self, result: FrameResult) -> None:
        """Count one frame."""

    def __exit__(self, *error: object) -> None:
        pass


def show(frame: Frame | UInt8Array, result: FrameResult) -> None:
    """Show a frame, or an image uint8 (H, W, 3), with the masks of a result below the cell.

    Raises:
        ConfigError: frame and masks differ in size, or this is not a notebook.
    """
    _check_notebook()
    from IPython.display import Image, display

    rgb = frame.rgb if isinstance(frame, Frame) else frame
    width, height = image_wh(rgb)
    if result.masks.shape[1:] != (height, width):
        expected = "x".join(map(str, result.masks.shape[:0:-1]))
        raise ConfigError(f"the frame is {width}x{height}: {expected} expected, the size of the masks")
    display(Image(jpeg(overlay(rgb, result), SHOWN_WIDTH), format="jpeg"))


def _check_notebook() -> None:
    if find_spec("IPython") is None:
        raise ConfigError("a notebook needs IPython: pip install 'samvideo[notebook]', or use `samvideo ui VIDEO`")
    from IPython import get_ipython

    if getattr(get_ipython(), "kernel", None) is None:
        raise ConfigError("this is not a notebook, but the page is shown in one: use `samvideo ui VIDEO` here")


def _in_colab() -> bool:
    return "google.colab" in sys.modules


def _absolute(video: str | os.PathLike[str]) -> str:
    """The path of a video, whatever folder later cells change to."""
    try:
        path = Path(video)
    except TypeError:
        raise ConfigError(
            f"video is {shown(video)}: the path of a file or of a folder of images expected"
        ) from None
    return str(path.absolute() if path.exists() else video)


def _in_python(message: str) -> str:
    """A message with the remedies of Python in the place of those of the command line."""
    for option, argument in REMEDIES.items():
        message = message.replace(option, argument)
    return message
