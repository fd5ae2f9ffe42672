"""A clip for the tests of a module."""

from pathlib import Path

import pytest

from tests.clips import write_clip


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("source") / "clip.mp4", 24, options={"bf": "2", "g": "8"})
