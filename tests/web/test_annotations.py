"""Annotations, their undo, and what is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from samvideo.errors import PromptError
from samvideo.types import Box, Mask, Points
from samvideo.web.annotations import MAX_OBJECTS, AnnotationStore
from samvideo.web.outlines import outlines
from samvideo.web.painting import polygon, stroke
from samvideo.web.uploads import MAX_BYTES, decode_objects

SIZE = 64, 48


def make_store() -> AnnotationStore:
    made = AnnotationStore(SIZE, 10)
    made.add_object()
    return made


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def test_annotations_become_prompts_and_text() -> None:
    store = make_store()
    store.set_box(3, 1, (-5, 2, 30.5, 90))
    store.add_click(3, 1, (4, 5, 1))
    store.add_click(3, 1, (6, 7, 0))
    drawn = store.current.by_frame()[3][1]
    box, points = drawn.prompts(1)
    assert isinstance(box, Box)
    assert box.xyxy == (0, 2, 30.5, 48)
    assert isinstance(points, Points)
    assert points.labels.tolist() == [1, 0]
    assert drawn.texts(1, 3) == ["box=0,2,30.5,48@3#1", "points=4,5/-6,7@3#1"]
    store.set_mask(3, 1, np.ones((48, 64), bool))
    assert store.current.by_frame()[3][1].box is None
    assert isinstance(store.current.by_frame()[3][1].prompts(1)[0], Mask)
    store.add_click(3, 1, (1, 1, 1))
    assert store.current.by_frame()[3][1].mask is None


def test_everything_can_be_undone_and_done_again() -> None:
    store = make_store()
    empty = store.current
    store.set_box(0, 1, (1, 2, 3, 4))
    store.rename(1, "tool")
    store.clear(0, 1)
    store.remove_object(1)
    full = store.current
    for _ in range(4):
        store.undo()
    assert store.current.names == empty.names
    assert store.current.drawn == {}
    for _ in range(9):
        store.redo()
    assert store.current.names == full.names
    store.undo()
    assert store.current.names == {1: "tool"}
    store.add_object()
    assert not store.current.can_redo
    assert sorted(store.current.names) == [1, 2]
    for _ in range(99):
        store.undo()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda m: m.set_box(10, 1, (1, 2, 3, 4)), "0 to 9 expected"),
        (lambda m: m.set_box(-1, 1, (1, 2, 3, 4)), "no frame -1"),
        (lambda m: m.set_box(0, 2, (1, 2, 3, 4)), "no object 2"),
        (lambda m: m.set_box(0, 1, (3, 2, 1, 4)), "no area"),
        (lambda m: m.set_box(0, 1, (70, 2, 80, 4)), "outside the frame"),
        (lambda m: m.set_box(0, 1, (float("nan"), 2, 80, 4)), "finite"),
        (lambda m: m.add_click(0, 1, (70, 2, 1)), "outside the frame"),
        (lambda m: m.add_click(0, 1, (7, 2, 5)), "labels must be"),
        (lambda m: m.set_mask(0, 1, np.ones((4, 4), bool)), "4x4"),
        (lambda m: m.set_mask(0, 1, np.zeros((48, 64), bool)), "blank"),
        (lambda m: m.set_masks(0, dict.fromkeys(range(1, 99), np.ones((48, 64), bool))), "at most 64 objects"),
        (lambda m: m.rename(7, "x"), "no object 7"),
        (lambda m: [m.add_object() for _ in range(MAX_OBJECTS)], "at most 64 objects"),
        (lambda m: [m.add_click(0, 1, (1, 1, 1)) for _ in range(999)], "clicks here already"),
    ],
)
def test_what_is_refused_changes_nothing(act: object, message: str) -> None:
    store = make_store()
    with pytest.raises(PromptError, match=message):
        act(store)  # type: ignore[operator]
    assert all(
        drawn.box is None and drawn.mask is None
        for here in store.current.by_frame().values()
        for drawn in here.values()
    )


def test_names_are_short_and_printable() -> None:
    store = make_store()
    store.rename(1, "a\n\x00b" + "c" * 99)
    assert store.current.names[1].startswith("abc")
    assert len(store.current.names[1]) == 100
    store.rename(1, " \n ")
    assert store.current.names[1] == "Object 1"


def test_prompts_of_the_command_line_are_loaded() -> None:
    store = AnnotationStore(SIZE, 10)
    store.load(
        [(0, Box((1, 2, 30, 40))), (4, Points([(5, 6), (7, 8)], [1, 0], object_id=7)), (4, Box((1, 1, 9, 9)))]
    )
    assert sorted(store.current.names) == [1, 2, 7]
    assert store.current.by_frame()[4][7].clicks == ((5, 6, 1), (7, 8, 0))
    assert store.add_object() == 8


def test_every_id_of_an_image_is_an_object() -> None:
    array = np.zeros((48, 64), np.uint8)
    array[3:9, 4:20], array[30:33, 4:20] = 1, 2
    masks = decode_objects(png(array), SIZE)
    assert list(masks) == [1, 2]
    np.testing.assert_array_equal(masks[2], array == 2)
    (mask,) = decode_objects(png((array > 0).astype(np.uint8) * 255), SIZE).values()
    np.testing.assert_array_equal(mask, array > 0)
    store = make_store()
    before = store.current
    store.set_masks(3, decode_objects(png(array * 3), SIZE))
    assert sorted(store.current.names) == [1, 3, 6]
    assert store.add_object() == 7
    store.undo()
    store.undo()  # both masks are one step
    assert (store.current.names, store.current.drawn) == (before.names, before.drawn)


def test_history_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samvideo.web.annotations.HISTORY_BYTES", 10 * 48 * 64)
    store = make_store()
    for k in range(1, 40):
        mask = np.zeros((48, 64), bool)
        mask[:k] = True
        store.set_mask(0, 1, mask)
    steps = 0
    while store.current.can_undo:
        store.undo()
        steps += 1
    assert 5 <= steps <= 11


def test_brush_and_polygon() -> None:
    blank = np.zeros((48, 64), bool)
    painted = stroke(blank, [(10, 10), (30, 10)], 4, erase=False)
    assert not blank.any()
    assert painted.sum() == pytest.approx(20 * 8 + np.pi * 16, rel=0.06)
    rows, columns = np.nonzero(painted)
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (6, 34, 6, 14)
    assert stroke(blank, [(20.5, 20.5)], 0.5, erase=False).sum() == 1
    erased = stroke(painted, [(20, 0), (20, 48)], 3, erase=True)
    assert not erased[:, 18:22].any()
    assert erased[10, 8]
    square = polygon(painted, [(40, 20), (60, 20), (60, 40), (40, 40)])
    assert (square & ~painted).sum() == 400
    outside = polygon(blank, [(-100000, -100000), (100000, -100000), (100000, 100000), (-100000, 100000)])
    assert outside.all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a PNG"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 99, "not a PNG"),
        (b"x" * (MAX_BYTES + 1), "over 16 MB"),
        (png(np.zeros((48, 64), np.uint8)), "blank"),
        (png(np.zeros((9, 9), np.uint8)), "9x9"),
        (png(np.ones((48, 64), np.uint8))[:60], "cannot be read"),
        (png(np.full((48, 64, 3), (1, 2, 3), np.uint8)), "colours"),
    ],
)
def test_bad_masks_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(PromptError, match=message) as caught:
        decode_objects(data, SIZE)
    assert "/tmp" not in str(caught.value)


def test_an_image_that_claims_to_be_huge_is_not_unpacked() -> None:
    file = io.BytesIO()
    Image.new("1", (30000, 30000), 1).save(file, "PNG")
    with pytest.raises(PromptError, match="pixels"):
        decode_objects(file.getvalue(), SIZE)


def test_jpeg_is_refused() -> None:
    file = io.BytesIO()
    Image.new("L", SIZE, 255).save(file, "JPEG")
    with pytest.raises(PromptError, match="not a PNG"):
        decode_objects(file.getvalue(), SIZE)


def test_outlines_follow_the_mask() -> None:
    mask = np.zeros((48, 64), bool)
    mask[10:30, 20:50] = True
    mask[15:20, 25:30] = False
    shapes = outlines(mask, (640, 480))
    assert len(shapes) == 2
    area = 0.0
    for shape in shapes:
        x, y = np.array(shape).reshape(-1, 2).T / 10
        area += abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2 * (1 if len(shape) and x.min() < 210 else -1)
    assert area == pytest.approx(100 * mask.sum(), rel=0.06)
    assert outlines(np.zeros((48, 64), bool), (640, 480)) == []
