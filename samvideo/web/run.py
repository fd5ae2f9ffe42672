"""One run with the page: serve it, track when it asks, keep the files up to date, and come to an end."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from samvideo.errors import ConfigError, SamVideoError, VideoError
from samvideo.interrupt import Interrupt
from samvideo.io.locks import folder_lock
from samvideo.io.prefetch import prefetch
from samvideo.io.source import VideoSource
from samvideo.run import RunSettings
from samvideo.run_base import OpenRun, Progress, RunSummary, StageTimer
from samvideo.segmenters.base import Segmenter
from samvideo.trackers.base import Tracker
from samvideo.trackers.first_mask import FirstMaskTracker
from samvideo.trackers.loop import place_prompts
from samvideo.trackers.stills import StillsTracker
from samvideo.types import FrameResult, VideoInfo
from samvideo.web.annotations import Annotations, changed_annotations
from samvideo.web.downloads import Downloads
from samvideo.web.messages import Track
from samvideo.web.open_pages import OpenPages
from samvideo.web.project import Project
from samvideo.web.proposing import make_prompter
from samvideo.web.server import PageServer, listen
from samvideo.web.state import Phase

WAIT = 0.1  # seconds between two looks at signals and pages while nothing is to do
LINGER = 1800  # seconds after Finish in which the files can still be downloaded
SLOW = 0.5  # seconds after which the terminal says what takes so long
COORDINATES = "or give coordinates, for instance --prompt box=40,60,200,220"


@dataclass(frozen=True)
class PageSettings:
    """How the page is served.

    Attributes:
        tool: "box", "points" or "mask": what the page begins with.
        host: what the server is bound to.
        port: None takes the usual one or any that is free.
        say: called with what the person at the terminal should know.
        embedded: the page is part of another one, such as a notebook, and may be closed and opened again: only
            Finish and `PageRun.stop` end it.
    """

    tool: str
    host: str
    port: int | None
    say: Callable[[str], None]
    embedded: bool = False


@dataclass(frozen=True)
class PageEnd:
    """How it came to an end.

    Attributes:
        summary: as of `run_tracking`; None when nothing was tracked.
        failure: why the files are not whole, if they are not.
        cut_short: it was ended by a signal, or by closing the page while tracking; not by pressing Finish.
    """

    summary: RunSummary | None
    failure: SamVideoError | None
    cut_short: bool


def run_with_page(
    settings: RunSettings,
    page: PageSettings,
    make_tracker: Callable[[], Tracker],
    make_segmenter: Callable[[], Segmenter],
    progress: Callable[[str, int | None], Progress],
    announce: Callable[[str], None],
) -> PageEnd:
    """Let a person annotate, track and correct in a browser until they finish, leave, or a signal comes.

    The arguments are those of `open_page`; `announce` is called with the address once it answers.

    Raises:
        SamVideoError: no page can be served for this source or at this address; nothing was written then.
    """
    with open_page(settings, page, make_tracker, make_segmenter, progress) as run:
        announce(run.address)
        return run.until_done()


@contextmanager
def open_page(
    settings: RunSettings,
    page: PageSettings,
    make_tracker: Callable[[], Tracker],
    make_segmenter: Callable[[], Segmenter],
    progress: Callable[[str, int | None], Progress],
) -> Iterator["PageRun"]:
    """Serve the page inside the `with` block; what is tracked there is the work of `PageRun.until_done`.

    Args:
        settings: as for `run_tracking`; prompts are shown as annotations that can be changed.
        page: how it is served.
        make_tracker: called once, at the start.
        make_segmenter: called at the first preview, unless the tracker has a segmenter of its own.
        progress: called for every pass.

    Raises:
        SamVideoError: no page can be served for this source or at this address; nothing was written then.
    """
    info = _look_at(settings, page.say)
    # `Run.open` checks the same, but only after the user has annotated and waited.
    with settings.open_source() as video:
        settings.check_results(info, video.files)
    folder = settings.folder(info)
    with ExitStack() as stack:
        stack.enter_context(folder_lock(folder))
        listener = stack.enter_context(listen(page.host, page.port))
        tracker = make_tracker()
        own = tracker.segmenter if isinstance(tracker, FirstMaskTracker | StillsTracker) else None
        project = stack.enter_context(
            Project(
                info,
                lambda: settings.open_source(),
                tracker,
                make_segmenter if own is None else lambda: own,
                tool=page.tool,
                direction=settings.direction,
                model=settings.model,
                embedded=page.embedded,
                make_prompter=partial(make_prompter, device=settings.options.get("device") or "auto"),
            )
        )
        with settings.open_source() as video:
            placed = place_prompts(settings.prompts, video)
        project.annotations.load((index, prompt) for index in sorted(placed) for prompt in placed[index])
        downloads = stack.enter_context(Downloads())
        open_pages = OpenPages()
        server = PageServer(project, open_pages, downloads, listener, page.host, embedded=page.embedded)
        stack.enter_context(server)
        yield PageRun(settings, page, project, open_pages, downloads, progress, server.address)


def _look_at(settings: RunSettings, say: Callable[[str], None]) -> VideoInfo:
    """What the page must know of the source. Raises SamVideoError for one that it cannot show."""
    if settings.start is not None or settings.end is not None or settings.stride != 1:
        raise ConfigError(f"the page shows the whole video: leave --start, --end and --stride out, {COORDINATES}")
    with settings.open_source() as video:
        next(iter(video))  # at its start even a pipe claims that it can seek
        try:
            video.seek(0)
        except VideoError as error:
            raise ConfigError(
                "the page needs a source that can go back, a video file or a folder of images, not "
                f"{video.info.name} ({error}): record it first, {COORDINATES}"
            ) from error
        return replace(video.info, frame_count=_count_frames(video, say))


def _count_frames(video: VideoSource, say: Callable[[str], None]) -> int:
    """Count them, since what a header states is not always there."""
    note = threading.Timer(SLOW, say, [f"counting the frames of {video.info.name} ..."])
    note.start()
    try:
        count = video.length()
    finally:
        note.cancel()
    if count is None:
        raise ConfigError(
            f"the page needs a source that ends, not {video.info.name}: record it first, {COORDINATES}"
        )
    return count


class PageRun:
    """The loop of the tracking thread; everything else reaches it through the project.

    Its state is `Status.phase`: results of a phase other than idle do not cover the whole pass.

    Attributes:
        project: what the pages share.
        address: of the page, with its token.
        settings: of the run.
    """

    def __init__(
        self,
        settings: RunSettings,
        page: PageSettings,
        project: Project,
        open_pages: OpenPages,
        downloads: Downloads,
        progress: Callable[[str, int | None], Progress],
        address: str,
    ) -> None:
        self.project, self.address, self.settings = project, address, settings
        self._page, self._progress = page, progress
        self._downloads, self._open_pages = downloads, open_pages
        self._timer = StageTimer()  # "total" leaves out the time in which the user thinks
        self._interrupt = Interrupt()
        self._pass: tuple[Track, Annotations, Generator[FrameResult, None, None]] | None = None
        self._saved = 0  # the results' revision that the files have
        self._labels: dict[int, str] = {}  # those that the files have
        self._summary: RunSummary | None = None
        self._failure: SamVideoError | None = None
        self._told_closed = False

    def until_done(self) -> PageEnd:
        """Serve the page's commands; see `run_with_page`."""
        project, finished = self.project, False
        with self._interrupt:
            while not finished and not self._should_end():
                self._notice_closed()
                command = project.next_command(0.0 if self._unsaved else WAIT)
                if command is not None and command.kind == "track":
                    self._track(command)
                elif command is not None and command.kind == "finish":
                    finished = True
                elif self._unsaved:
                    self._save()
            tracking = project.status.phase.busy
            cut_short = self._interrupt.requested or tracking
            self._drop_pass()
            if tracking:
                project.report(replace(project.status, phase=Phase.PAUSED))
            if self._unsaved:
                self._save(final=True)
            project.report(replace(project.status, phase=Phase.DONE))
            if finished and self._open_pages.ever and not self._page.embedded:
                self._linger()
        return PageEnd(self._summary, self._failure, cut_short)

    def stop(self) -> None:
        """End `until_done` from another thread, as a signal does; what was tracked is written first."""
        self._interrupt.requested = True

    @property
    def _unsaved(self) -> bool:
        return self.project.results.revision != self._saved or self._renamed

    @property
    def _renamed(self) -> bool:
        """Whether the files have another name of an object."""
        now = self.project.annotations.current
        labels = now.labels
        return self._summary is not None and any(labels.get(i) != self._labels.get(i) for i in now.names)

    def _should_end(self) -> bool:
        if self._interrupt.requested or self._page.embedded:
            return self._interrupt.requested
        tracking = self.project.status.phase.busy
        worth = tracking or self._summary is not None
        return worth and self._open_pages.gone(silent=tracking)

    def _notice_closed(self) -> None:
        """Tell the terminal, once, that the page was closed before there was anything to end with."""
        closed = not self._page.embedded and self._open_pages.gone(silent=False)
        if closed and not self._told_closed:
            self._page.say(
                "the page was closed, nothing is tracked yet: open its address again, or press Ctrl-C to end"
            )
        self._told_closed = closed

    def _linger(self) -> None:
        """Go on serving the files until the pages are closed, or one says to end."""
        self._page.say(
            f"finished: the page offers the files for download until it is closed, {LINGER // 60} minutes at most; "
            "Ctrl-C ends it here"
        )
        end = time.monotonic() + LINGER
        while time.monotonic() < end and not self._interrupt.requested and not self._open_pages.gone(silent=True):
            command = self.project.next_command(WAIT)
            if command is not None and command.kind == "finish":
                return

    # --- tracking -----------------------------------------------------------------------------------------

    def _track(self, command: Track) -> None:
        """Run a pass until its end, or until a page or a signal stops it; a paused one continues."""
        project, drawn = self.project, self.project.annotations.current.by_frame()
        if self._pass is None or self._pass[0] != command or changed_annotations(drawn, self._pass[1]):
            self._drop_pass()
            self._pass = command, drawn, project.tracking.run(drawn, command.direction)
        self.settings = replace(self.settings, direction=command.direction)
        self._downloads.offer({})
        if self._summary is not None:
            self._saved = -1  # the files are written again, also if the pass is paused before its first result
        project.report(replace(project.status, phase=Phase.TRACKING, error="", files={}))
        phase, error = Phase.IDLE, ""
        count = None if command.direction == "both" else project.media.count
        try:
            with self._timer.measure("total"), self._progress(project.media.info.name, count) as bar:
                for result in self._timer.each("step", self._pass[2]):
                    self._report(result, bar)
                    if self._stopped():
                        return
        except SamVideoError as failure:
            phase, error = Phase.FAILED, str(failure)
        self._pass = None
        project.report(replace(project.status, phase=phase, error=error))

    def _report(self, result: FrameResult, bar: Progress) -> None:
        project = self.project
        phase = Phase.REPLAYING if project.tracking.replaying else Phase.TRACKING
        project.report(replace(project.status, phase=phase, at=result.index))
        if phase is Phase.TRACKING:
            bar.advance(result)

    def _stopped(self) -> bool:
        """Whether the pass must stop here: paused, finished, abandoned, or interrupted."""
        project = self.project
        if self._should_end():
            return True
        command = project.next_command()
        if command is None or command.kind == "track":
            return False
        project.report(replace(project.status, phase=Phase.PAUSED))
        if command.kind == "finish":
            project.command(command)
        return True

    def _drop_pass(self) -> None:
        if self._pass is not None:
            self._pass[2].close()
            self._pass = None

    # --- files --------------------------------------------------------------------------------------------

    def _save(self, *, final: bool = False) -> None:
        """Write all files from the results; given up when the page asks for more, since they are stale then."""
        project = self.project
        self._downloads.offer({})
        project.report(replace(project.status, saving=True, files={}))

        def stale() -> bool:
            return not final and (project.waiting() or self._interrupt.requested)

        with self.settings.open_source() as video:
            now = project.annotations.current
            drawn, labels = now.by_frame(), now.labels
            placed = [(frame, i, new) for frame in drawn for i, new in drawn[frame].items()]
            texts = [text for frame, i, new in placed for text in new.texts(i, frame, labels.get(i))]
            settings = replace(self.settings, prompt_texts=tuple(texts), labelled=bool(labels))
            try:
                run = settings.open_run(project.media.info, self._timer, video.files)
                self.settings = replace(self.settings, overwrite=True)  # the folder is this run's own now
                failure = self._write(video, run, labels, stale)
            except SamVideoError as error:
                self._failure, self._saved, self._labels = error, project.results.revision, labels
                project.report(replace(project.status, saving=False, error=str(error)))
                return
            if stale():
                project.report(replace(project.status, saving=False))
                return
            complete = project.status.phase is Phase.IDLE
            self._summary = run.finish("complete" if complete else "interrupted", failure, skipped=video.skipped)
            self._failure = run.failure
        self._saved, self._labels = project.results.revision, labels
        self._downloads.offer(run.files)
        files = {kind: path.name for kind, path in run.files.items()}
        status = replace(project.status, saving=False, files=files, folder=str(run.folder.absolute()))
        project.report(replace(status, error=str(failure or "")))

    def _write(
        self, video: VideoSource, run: OpenRun[Any], labels: dict[int, str], stale: Callable[[], bool]
    ) -> SamVideoError | None:
        """Write every frame up to the last one with results, or all frames after a whole pass."""
        project = self.project
        known, ids = project.results.frames(), set(project.annotations.current.names)
        last = project.media.count if project.status.phase is Phase.IDLE else max(known, default=-1)
        try:
            with self._timer.measure("total"), run, closing(prefetch(iter(video))) as frames:
                for frame in self._timer.each("decode", frames):
                    if frame.index > last or stale():
                        break
                    run.write(frame, replace(project.results.take(frame, ids), labels=labels))
                    project.report(replace(project.status, saving=True, at=frame.index))
        except SamVideoError as error:
            return error
        return None
