"""Masks as prompts of `samvideo track`: what the options of the command line do, and what is told before a run."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from samvideo.cli.main import app

IDS = np.zeros((48, 64), np.uint8)
IDS[8:24, 8:24], IDS[28:44, 34:56] = 1, 2


@pytest.fixture(autouse=True)
def frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clip").mkdir()
    for index in range(2):
        Image.fromarray(np.repeat(IDS[..., None] * 90 + 20, 3, 2)).save(f"clip/{index}.png")


def track(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["track", "clip", "--model", "flow", "-q", "-o", "out", *arguments])


def objects() -> dict[int, int]:
    """Area of each object in the first frame."""
    first = json.loads(Path("out/tracks.jsonl").read_text().splitlines()[1])
    return {entry["id"]: entry["area"] for entry in first["objects"]}


def test_a_soft_mask_is_one_object() -> None:
    Image.fromarray(cv2.GaussianBlur((IDS == 1).astype(np.uint8) * 255, (0, 0), 2)).save("soft.png")
    assert track("-p", "mask=soft.png", "--save", "rle").exit_code == 0
    assert list(objects()) == [1]


def test_options_tell_how_to_read_an_unclear_mask() -> None:
    Image.fromarray(np.choose(IDS, [0, 127, 255]).astype(np.uint8)).save("shades.png")
    Path("prompts.json").write_text('[{"mask": "shades.png"}]')
    refused = track("-p", "mask=shades.png")
    assert refused.exit_code == 2
    assert "--threshold 128" in refused.stderr
    assert not Path("out").exists()
    for prompt in ("mask=shades.png", "prompts.json"):
        assert track("-p", prompt, "--threshold", "100", "--save", "rle", "--overwrite").exit_code == 0
        assert objects() == {1: int((IDS > 0).sum())}
    assert track("-p", "mask=shades.png", "--void", "255", "--save", "rle", "--overwrite").exit_code == 0
    assert objects() == {127: int((IDS == 1).sum())}


@pytest.mark.parametrize("prompt", ["box=8,8,24,24#300", "mask=ids.png"])
def test_ids_that_mask_images_do_not_hold_are_told_before_the_run(prompt: str) -> None:
    Image.fromarray(IDS.astype(np.uint16) * 300).save("ids.png")
    refused = track("-p", prompt)
    assert refused.exit_code == 2
    assert "hold object ids 1 to 255, not" in refused.stderr
    assert not Path("out").exists()
    assert track("-p", prompt, "--save", "rle,csv").exit_code == 0
    assert max(objects()) >= 300
