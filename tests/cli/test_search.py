"""`samvideo track --prompt everything` with what the package has: objects are found, and bounded in number."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.io.masks import read_mask_objects
from tests.scenes import overlap


def call(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done.output


def test_everything_is_found_and_tracked_without_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call("demo-clip", "clip.mp4", "--frames", 6, "--width", 428, "--height", 240, "--truth", "truth")
    call(
        "track", "clip.mp4", "--prompt", "everything", "--model", "nano", "--save", "masks,csv", "--max-objects", 12
    )
    found = read_mask_objects("clip_tracked/masks/00005.png")
    for number, true in read_mask_objects("truth/00005.png").items():
        assert max(overlap(np.asarray(mask), true) for mask in found.values()) > 0.75, number
    record = json.loads(Path("clip_tracked/run.json").read_text())
    assert record["settings"]["search"] == {
        "prompter": "learned", "detector": None, "max_objects": 12, "every": 1.0
    }  # fmt: skip
    assert 3 <= len(record["objects"]) <= 12
    assert record["objects"][0]["first_frame"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--every", "0"), "a number of seconds above 0"),
        (("--direction", "backward"), "leave --direction backward out"),
        (("--policy", "sam2long:final=true"), "leave a --policy with final results out"),
        (("--prompter", "boxes"), "needs a detector"),
        (("--model", "flow"), "needs a model of the SAM family"),
    ],
)
def test_searches_that_cannot_be_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    call("demo-clip", "clip.mp4", "--frames", 2, "--width", 64, "--height", 48)
    assert message in " ".join(call("track", "clip.mp4", "--prompt", "everything", *options, code=2).split())
    assert not Path("clip_tracked").exists()
