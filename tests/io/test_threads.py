"""Decoding ahead and writing behind: bounded, in order, joined, and no error lost."""

import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from samvideo.io.background import Background
from samvideo.io.prefetch import DEPTH, prefetch
from samvideo.io.source import clip, open_video
from tests.clips import write_clip


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("samvideo")]


def wait_for(condition: object) -> None:
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.002)


def test_prefetch_never_runs_more_than_its_depth_ahead() -> None:
    made = 0

    def items() -> Iterator[int]:
        nonlocal made
        while made < 100:
            made += 1
            yield made

    ahead = []
    for item in prefetch(items()):
        wait_for(lambda item=item: made - item >= DEPTH or made == 100)
        time.sleep(0.001)
        ahead.append(made - item)
    assert max(ahead) == DEPTH
    assert item == 100
    assert not threads()


def test_prefetch_joins_after_an_early_break_and_closes_its_input() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    ahead = prefetch(items())
    for item in ahead:
        if item == 3:
            break
    assert threads()
    ahead.close()
    assert closed.is_set()
    assert not threads()


def test_prefetch_starts_nothing_until_asked() -> None:
    ahead = prefetch(iter([1]))
    assert not threads()
    assert list(ahead) == [1]


def test_prefetch_raises_where_the_items_failed() -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise RuntimeError("broken here")

    seen = []
    with pytest.raises(RuntimeError, match="broken here") as caught:
        seen.extend(prefetch(broken()))
    assert seen == [1, 2]
    assert any(frame.name == "broken" for frame in traceback.extract_tb(caught.value.__traceback__))
    assert not threads()


def test_prefetch_of_a_video(tmp_path: Path) -> None:
    with open_video(write_clip(tmp_path / "clip.mp4", 24)) as source:
        assert [frame.index for frame in prefetch(clip(source, 5, 20))] == list(range(5, 20))
        source.seek(2)
        assert next(iter(source)).index == 2
    assert not threads()


def test_background_keeps_order_and_joins() -> None:
    seen: list[int] = []
    with Background(seen.append) as writer:
        for item in range(100):
            writer.put(item)
    assert seen == list(range(100))
    assert not threads()
    with pytest.raises(ValueError, match="closed"):
        writer.put(1)


def test_background_waits_only_while_full() -> None:
    gate = threading.Event()
    writer = Background(lambda item: gate.wait(5), maxsize=2)
    for item in range(3):  # one in the sink, two waiting
        writer.put(item)
    blocked = threading.Thread(target=writer.put, args=(3,))
    blocked.start()
    blocked.join(0.05)
    assert blocked.is_alive()
    gate.set()
    blocked.join(5)
    assert not blocked.is_alive()
    writer.close()


def test_background_tells_its_first_error_once() -> None:
    seen: list[int] = []

    def sink(item: int) -> None:
        seen.append(item)
        if item == 1:
            raise OSError("disk full")

    writer = Background(sink)
    writer.put(0)
    writer.put(1)
    wait_for(lambda: writer._failed)
    with pytest.raises(OSError, match="disk full"):
        writer.put(2)
    writer.put(3)
    writer.close()
    writer.close()
    assert seen == [0, 1]
    assert not threads()


def test_background_error_surfaces_on_close() -> None:
    def sink(item: int) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), Background(sink) as writer:
        writer.put(0)
    assert not threads()
