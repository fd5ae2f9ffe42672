"""A tiny teacher and student, and what runs beside a test of several processes: these import this module."""

from dataclasses import replace
from typing import Any, NoReturn

import pytest

from samvideo.encoders import sam_vit
from samvideo.encoders.sam_vit import SamVitConfig
from samvideo.specs import IMAGE_SPECS
from samvideo.training import distil

SIDE = 64
TEACHER, STUDENT = "sam-vit-mini", "sam-vit-b"


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Make the two models tiny: the student has half the blocks of the teacher, and another width."""
    patch.setitem(sam_vit.VARIANTS, TEACHER, SamVitConfig(32, 2, 4, (1, 3), 64, window=3, side=SIDE // 16))
    patch.setitem(sam_vit.VARIANTS, STUDENT, SamVitConfig(24, 2, 2, (1,), 48, window=3, side=SIDE // 16))
    small = replace(IMAGE_SPECS[TEACHER], input_wh=(SIDE, SIDE))
    patch.setitem(IMAGE_SPECS, TEACHER, small)
    patch.setitem(IMAGE_SPECS, STUDENT, replace(small, name=STUDENT, encoder=STUDENT))


def beside(*arguments: Any, rank: int, count: int) -> None:
    """What the second process of a test does: the models are tiny there, too."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        distil.help_learn(*arguments, rank=rank, count=count)


def _no_reading() -> NoReturn:
    raise ModuleNotFoundError("a module that is not there")


class Unreadable:
    """Work that another process cannot read."""

    def __call__(self, **_: int) -> None:
        """Never called."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _no_reading, ()
