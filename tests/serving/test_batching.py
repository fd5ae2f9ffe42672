"""Batches: which calls are computed as one, what is reported about failures, and that masks stay the same."""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs samvideo[serve]")
pytest.importorskip("httpx", reason="FastAPI's test client needs httpx")

from page_helpers import wait_until
from serving_client import BOX, FLIPPED, FLIPPED_BOX, FRAMES, alone, tiny
from tiny_sam import tiny_model

from samvideo.demo import demo_frames
from samvideo.errors import ConfigError
from samvideo.geometry import mask_box
from samvideo.io.rle import decode_rle
from samvideo.serving.batching import BatchingRuntime, Calls, Kind
from samvideo.serving.service import Service, sharing
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.factory import create_tracker
from samvideo.trackers.flow import FlowTracker
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Frame, FrameResult

A, B, EARLIER = Kind(None, "track", "a"), Kind(None, "track", "b"), Kind(None, "encode")


class Waiting:
    """Calls that wait until `release`, so that a test knows which are there; notes what is computed."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, int]] = []
        self.computed: list[list[Any]] = []
        self.thread = ThreadPoolExecutor(1)
        self.calls = Calls(self.thread, lambda *batch: self.batches.append(batch))
        self._callers = ThreadPoolExecutor(16)
        self._gate = threading.Event()
        self.thread.submit(self._gate.wait, 30)

    def join(self, arguments: Any, kind: Kind = A, objects: int = 1, frames: int = 8) -> "Future[Any]":
        """A call on a thread of its own, which waits when this returns."""
        before = self.count()
        result = self._callers.submit(self.calls.join, kind, self._compute, arguments, objects, frames)
        wait_until(lambda: self.count() > before, 10)
        return result

    def count(self) -> int:
        return sum(map(len, self.calls._waiting.values()))

    def _compute(self, arguments: Sequence[Any]) -> list[str]:
        self.computed.append(list(arguments))
        if "culprit" in arguments:
            raise MemoryError("culprit")
        return [f"result of {one}" for one in arguments]

    def release(self) -> None:
        self._gate.set()

    def close(self) -> None:
        self.release()
        self._callers.shutdown()
        self.thread.shutdown()


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    made = Waiting()
    yield made
    made.close()


def test_calls_of_a_kind_are_one_batch_earlier_stages_first_then_in_order_of_arrival(waiting: Waiting) -> None:
    asked = (("1", A), ("2", B), ("3", A), ("4", A), ("5", EARLIER))
    results = [waiting.join(name, kind) for name, kind in asked]
    waiting.release()
    assert [result.result(10) for result in results] == [f"result of {name}" for name in "12345"]
    assert waiting.computed == [["5"], ["1", "3", "4"], ["2"]]
    assert waiting.batches == [("encode", 1), ("track", 3), ("track", 1)]
    assert not waiting.calls._waiting


@pytest.mark.parametrize(
    ("objects", "frames", "sizes"), [(1, 2, [2, 2, 1]), (1, 8, [5]), (6, 8, [2, 2, 1]), (16, 8, 5 * [1])]
)
def test_batches_are_bounded(waiting: Waiting, objects: int, frames: int, sizes: list[int]) -> None:
    results = [waiting.join(number, objects=objects, frames=frames) for number in range(5)]
    waiting.release()
    assert [result.result(10) for result in results] == [f"result of {number}" for number in range(5)]
    assert list(map(len, waiting.computed)) == sizes


def test_what_fails_together_is_computed_alone_and_only_the_culprit_fails(
    waiting: Waiting, caplog: pytest.LogCaptureFixture
) -> None:
    results = [waiting.join(name) for name in ("1", "culprit", "3")]
    waiting.release()
    assert (results[0].result(10), results[2].result(10)) == ("result of 1", "result of 3")
    with pytest.raises(MemoryError, match="culprit"):
        results[1].result(10)
    (record,) = caplog.records
    assert (record.levelno, "batch of 3 frames" in record.message) == (logging.WARNING, True)
    assert waiting.calls.join(A, waiting._compute, "next", 1, 8) == "result of next"


def test_calls_that_wait_at_the_end_are_answered_and_later_ones_refused(waiting: Waiting) -> None:
    results = [waiting.join(name) for name in "12"]
    waiting.thread.shutdown(wait=False)
    waiting.release()
    assert [result.result(10) for result in results] == ["result of 1", "result of 2"]
    with pytest.raises(RuntimeError, match="shutdown"):
        waiting.calls.join(A, waiting._compute, "3", 1, 8)
    with pytest.raises(RuntimeError, match="shutdown"):
        waiting.calls.run(A, lambda: None)
    assert not waiting.calls._waiting


def test_waiting_is_counted_by_thread_and_computing_is_not() -> None:
    with ThreadPoolExecutor(1) as thread:
        calls, release = Calls(thread), threading.Event()
        thread.submit(release.wait, 10)
        threading.Timer(0.2, release.set).start()
        calls.run(A, lambda: threading.Event().wait(0.3))
        assert 0.1 < calls.waited() < 0.3
        assert calls.waited() == 0


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum()) if (a | b).any() else 1.0


def tracked(tracker: Any, frames: Sequence[Frame], box: Box) -> list[FrameResult]:
    return [tracker.step(frame, [box] if frame.index == 0 else []) for frame in frames]


@pytest.mark.parametrize("count", [3, pytest.param(50, marks=pytest.mark.long)])
def test_nano_tracks_in_batches_as_alone(count: int, waiting: Waiting) -> None:
    """Two sessions of one size and one of another, each with an object of the demo clip."""
    shared: Any = create_tracker("nano", device="cpu", dtype="fp32")
    clips, boxes = [], []
    for number, size in enumerate([(160, 96), (96, 64), (160, 96)]):
        shown = list(islice(demo_frames(50, size), count))
        clips.append([Frame(index, index / 24, rgb) for index, (rgb, _) in enumerate(shown)])
        boxes.append(Box(mask_box(shown[0][1][number % 2]) or (0, 0, 9, 9)))
    runtime = BatchingRuntime(shared.runtime, waiting.calls, 4)
    with ThreadPoolExecutor(3) as sessions:
        results = sessions.map(tracked, [SamTracker(runtime) for _ in clips], clips, boxes)
        wait_until(lambda: waiting.count() == 3, 30)
        waiting.release()
        found = list(results)
    expected = [tracked(SamTracker(shared.runtime), *one) for one in zip(clips, boxes, strict=True)]
    assert sorted(waiting.batches[:2]) == [("encode", 1), ("encode", 2)]
    assert sum(frames for stage, frames in waiting.batches if stage == "remember") == 3 * count
    for one, other in zip(found, expected, strict=True):
        assert min(iou(a.masks[0], b.masks[0]) for a, b in zip(one, other, strict=True)) >= 0.999


def test_sessions_of_several_models_are_tracked_at_once_as_alone() -> None:
    """Those of one model in batches, one that cannot beside them; with the metrics of it."""
    other_tiny = sharing(lambda: SamTracker(TorchRuntime(tiny_model("pooled"))))
    models = {"tiny": tiny(), "pooled": other_tiny, "flow": FlowTracker}
    cases = [(name, *video) for name in models for video in ((FRAMES, BOX), (FLIPPED, FLIPPED_BOX), (FRAMES, BOX))]
    expected = [alone(models[name](), frames, box) for name, frames, box in cases]
    service = Service(models, batch=4)

    async def follow(name: str, frames: list[np.ndarray], box: tuple[float, ...]) -> list[Any]:
        session = await service.create("me", name)
        records = [await service.step(session, Frame(0, 0.0, frames[0]))]
        for index, rgb in enumerate(frames):
            prompts = [Box(box)] if index == 0 else []  # type: ignore[arg-type]
            records.append(await service.step(session, Frame(index, index / 24, rgb), lambda given=prompts: given))
        return json.loads(json.dumps([record.to_json() for record in records[1:]]))

    async def follow_all() -> list[Any]:
        found = await asyncio.gather(*(follow(*case) for case in cases))
        await service.close()
        return found

    for one, other in zip(asyncio.run(follow_all()), expected, strict=True):
        for frame, expected_frame in zip(one, other, strict=True):
            (found,), (alike,) = frame["objects"], expected_frame["objects"]
            assert iou(decode_rle(found["segmentation"]), decode_rle(alike["segmentation"])) >= 0.999
            assert found["score"] == pytest.approx(alike["score"], abs=1e-3)
    text = service.metrics.text().decode()
    steps = len(cases) * (len(FRAMES) + 1)
    assert f"samvideo_queue_seconds_count {steps}.0" in text
    assert f'samvideo_step_seconds_count{{model="tiny"}} {steps // 3}.0' in text
    assert f'samvideo_batch_frames_sum{{stage="encode"}} {6 * len(FRAMES)}.0' in text


def test_a_step_in_batches_is_finished_after_its_client_has_gone() -> None:
    release = threading.Event()

    async def vanish(service: Service) -> None:
        session = await service.create("me")
        service._computing.submit(release.wait, 10)
        step = asyncio.create_task(service.step(session, Frame(0, 0.0, FRAMES[0]), lambda: [Box(BOX)]))
        await asyncio.sleep(0.1)
        step.cancel()
        closing = asyncio.create_task(service.close())
        await asyncio.sleep(0.1)
        assert not closing.done()
        release.set()
        await closing

    service = Service({"tiny": tiny()}, batch=4)
    asyncio.run(vanish(service))
    assert "samvideo_queue_seconds_count 1.0" in service.metrics.text().decode()


def test_batches_of_models_that_cannot_are_refused() -> None:
    with pytest.raises(ConfigError, match="none of flow computes several frames at once"):
        Service({"flow": FlowTracker}, batch=8)


def test_a_cpu_computes_frames_one_at_a_time_unless_asked() -> None:
    assert TorchRuntime(tiny_model()).frames_at_once == 1

    async def batches(batch: int | None) -> bool:
        service = Service({"tiny": tiny()}, batch=batch)
        session = await service.create("me")
        await service.step(session, Frame(0, 0.0, FRAMES[0]), lambda: [Box(BOX)])
        await service.close()
        return "samvideo_batch_frames_sum" in service.metrics.text().decode()

    assert [asyncio.run(batches(batch)) for batch in (None, 1, 2)] == [False, False, True]
