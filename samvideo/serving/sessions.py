"""A session: one video, its tracker, and what is known of it. Bounded: it does not grow with the frames seen.

Threads: `turn` and the facts belong to the server's thread; all that takes time runs on other threads, one at a
time by a lock.
"""

import logging
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from samvideo.errors import SamVideoError
from samvideo.io.base import VideoSource
from samvideo.io.images import DEFAULT_RATE
from samvideo.object_prompts import labels_of, number_prompts
from samvideo.serving.frames import open_upload
from samvideo.serving.limits import Limits, Refusal
from samvideo.serving.messages import SessionFacts, VideoFacts
from samvideo.serving.storage import temporary_folder
from samvideo.trackers.base import Tracker
from samvideo.types import Frame, FrameResult, Prompt, UInt8Array


class Session:
    """One session.

    Args:
        owner: the token of who created it, to whom alone it exists.
        model: name of the model.
        tracker: of this session only.
        limits: what it may use.
        prefix: begins its id.
    """

    def __init__(self, owner: str, model: str, tracker: Tracker, limits: Limits, prefix: str = "") -> None:
        self.id = prefix + secrets.token_urlsafe(16)
        self.owner, self.model, self._tracker, self._limits = owner, model, tracker, limits
        self.frame: Frame | None = None
        self.video: VideoSource | None = None
        self._ahead: Frame | None = None  # read, but not tracked yet
        self._strayed = False  # whether the video was moved elsewhere than to the frame after the newest
        self._labels: dict[int, str] = {}
        self._object_ids: tuple[int, ...] = ()
        self._folder: Path | None = None
        self._storage = ExitStack()  # what removes the folder
        self._lock = threading.Lock()
        self._busy = self._closed = self._failed = False
        self._used = time.monotonic()

    # --- on the server's thread ---------------------------------------------------------------------------

    @contextmanager
    def turn(self) -> Iterator[None]:
        """While entered, no other request of this session is answered: Refusal, 409, for those."""
        if self._busy:
            raise Refusal(409, "another request of this session is being answered: wait for its end")
        self._busy = True
        self.touch()
        try:
            yield
        finally:
            self._busy = False
            self.touch()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._busy

    def touch(self) -> None:
        """Note that the session is in use."""
        self._used = time.monotonic()

    @property
    def expires_in(self) -> float:
        """Seconds until it is closed, without further requests."""
        return self._limits.idle_seconds - (time.monotonic() - self._used)

    def facts(self) -> SessionFacts:
        """Description of the session for clients."""
        return SessionFacts(
            id=self.id,
            model=self.model,
            frame=None if self.frame is None else self.frame.index,
            objects=list(self._object_ids),
            video=None if self.video is None else VideoFacts.of(self.video.info),
            expires_in=max(0.0, round(self.expires_in, 1)),
        )

    def new_frame(self, rgb: UInt8Array, index: int | None, seconds: float | None) -> Frame:
        """Number a frame of a stream: by default the next one, timed as in a folder of images."""
        if self.video is not None:
            raise Refusal(409, "this session has a video: step or propagate, or create another session")
        if index is None:
            index = 0 if self.frame is None else self.frame.index + 1
        return Frame(index, float(index / DEFAULT_RATE) if seconds is None else seconds, rgb)

    def upload_path(self) -> Path:
        """Where the video of this session goes; Refusal if it has one, or frames, or there is no room."""
        if self.video is not None or self.frame is not None:
            raise Refusal(409, "this session has a video or frames: create another session")
        if self._folder is None:
            try:
                self._folder = self._storage.enter_context(temporary_folder())
            except OSError as error:
                raise Refusal(507, f"the video cannot be stored here: {error.strerror}") from error
        return self._folder / "video"

    # --- on other threads ---------------------------------------------------------------------------------

    def open_video(self, path: Path) -> None:
        """Take a file as the video. Raises VideoError, or Refusal for one that is too large."""
        with self._using():
            try:
                self.video = open_upload(path, self._limits.pixels)
            except Exception:
                path.unlink(missing_ok=True)
                raise

    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> FrameResult:
        """Track a frame.

        Raises:
            SamVideoError: the session has not changed.
            Refusal: 500, for any other error; the session cannot be used any more then.
        """
        with self._using():
            numbered = number_prompts(prompts, self._object_ids)
            ids = {*self._object_ids, *(prompt.object_id for prompt in numbered)}
            if len(ids) > self._limits.objects:
                raise Refusal(409, f"{len(ids)} objects: at most {self._limits.objects} in a session, delete some")
            result = self._tracked(frame, numbered)
            self._labels |= labels_of(numbered)
            self.frame, self._object_ids = frame, result.object_ids
            if frame is self._ahead:
                self._ahead, self._strayed = None, False
            return replace(result, labels=dict(self._labels), revised=())

    def _tracked(self, frame: Frame, prompts: Sequence[Prompt]) -> FrameResult:
        try:
            return self._tracker.step(frame, prompts)
        except SamVideoError:
            raise
        except Exception as error:  # the tracker may have taken in half of the frame
            self._failed = True
            logging.getLogger(__name__).exception("a session has failed at frame %d", frame.index)
            raise Refusal(
                500, "the frame cannot be tracked because of an internal error: create another session"
            ) from error

    def read(self, index: int | None = None) -> Frame | None:
        """The next frame of the video, or that of an index; None after the last one."""
        with self._using():
            video = check_video(self)
            if self.frame is not None and index == self.frame.index:
                return self.frame
            if index is not None and (self._ahead is None or self._ahead.index != index):
                self._ahead, self._strayed = None, True  # also if the seek fails
                video.seek(index)
            if self._ahead is None:
                self._ahead = next(iter(video), None)
            return self._ahead

    def skip(self) -> bool:
        """Leave out the next frame of the video; whether there was one."""
        there = self.read() is not None
        if there:
            self._ahead, self._strayed = None, True
        return there

    def rewind(self) -> None:
        """Make the frame after the newest one the next, or the first one, wherever the video was moved."""
        with self._using():
            if self._strayed:
                video = check_video(self)
                video.seek(0 if self.frame is None else self.frame.index)
                if self.frame is not None:
                    next(iter(video), None)
                self._ahead, self._strayed = None, False

    def forget(self, object_id: int) -> None:
        """Stop tracking an object; Refusal, 404, if it is not tracked."""
        with self._using():
            if object_id not in self._object_ids:
                raise Refusal(404, f"object {object_id} is not tracked; tracked: {list(self._object_ids)}")
            self._tracker.forget(object_id)
            self._object_ids = tuple(i for i in self._object_ids if i != object_id)
            self._labels.pop(object_id, None)

    def close(self) -> None:
        """Wait for the step under way, and release everything."""
        with self._lock, ExitStack() as left:  # each is called, also if one before it fails
            self._closed = True
            self.frame = self._ahead = None
            left.callback(self._storage.close)
            left.callback(self._tracker.reset)
            if self.video is not None:
                left.callback(self.video.close)

    @contextmanager
    def _using(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise Refusal(404, "this session was closed")
            if self._failed:
                raise Refusal(409, "this session has failed: create another session")
            yield


def newest_frame(session: Session) -> Frame:
    """The newest frame; Refusal, 409, if there is none."""
    if session.frame is None:
        raise Refusal(409, "this session has no frame yet: send one, or upload a video and step to one")
    return session.frame


def check_video(session: Session) -> VideoSource:
    """The uploaded video; Refusal, 409, if there is none."""
    if session.video is None:
        raise Refusal(409, "this session has no video: upload one, or send frames")
    return session.video
