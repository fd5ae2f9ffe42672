import numpy as np

from samvideo.render import object_colour, overlay
from samvideo.types import FrameResult


def result(masks: np.ndarray, present: list[bool]) -> FrameResult:
    ids = tuple(range(1, len(masks) + 1))
    return FrameResult(0, 0.0, ids, masks, np.ones(len(masks), np.float32), np.array(present))


def test_only_the_object_and_its_label_are_painted() -> None:
    rgb = np.full((200, 300, 3), 100, np.uint8)
    masks = np.zeros((1, 200, 300), bool)
    masks[0, 100:150, 50:120] = True
    picture = overlay(rgb, result(masks, [True]))
    assert (rgb == 100).all()
    inside = picture[110:140, 60:110]
    expected = np.round(0.55 * 100 + 0.45 * np.array(object_colour(1)))
    assert np.abs(inside.astype(int) - expected).max() <= 1
    changed = (picture != 100).any(2)
    changed[70:152, 48:122] = False
    assert not changed.any()


def test_a_lost_object_is_named_and_not_painted() -> None:
    rgb = np.full((200, 300, 3), 100, np.uint8)
    masks = np.ones((1, 200, 300), bool)
    for picture in (overlay(rgb, result(masks, [False])), overlay(rgb, result(masks & False, [True]))):
        changed = (picture != 100).any(2)
        assert changed[:30, :160].any()
        assert not changed[40:].any()


def test_pictures_of_one_pixel() -> None:
    for present in (True, False):
        pair = result(np.ones((2, 1, 1), bool), [present] * 2)
        assert overlay(np.zeros((1, 1, 3), np.uint8), pair).shape == (1, 1, 3)


def test_neighbouring_ids_differ_in_colour() -> None:
    colours = [np.array(object_colour(i), int) for i in range(1, 9)]
    for i, one in enumerate(colours):
        for other in colours[:i]:
            assert np.abs(one - other).max() > 40
