import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from samvideo.errors import PromptError, SamVideoError
from samvideo.prompt_syntax import load_prompts, parse_prompts
from samvideo.types import Box, Mask, Points


def test_box_with_moment_and_id() -> None:
    (plain,) = parse_prompts(["box=1,2,30,40.5"])
    assert plain == Box((1, 2, 30, 40.5))
    (frame,) = parse_prompts(["box=1,2,3,4@12#7"])
    assert frame == Box((1, 2, 3, 4), object_id=7, frame=12)
    (seconds,) = parse_prompts(["box=1,2,3,4#7@12.5s"])
    assert seconds == Box((1, 2, 3, 4), object_id=7, seconds=12.5)


def test_points_with_a_minus_are_negative() -> None:
    (points,) = parse_prompts(["points=10,20/-30,40/-0,5"])
    assert isinstance(points, Points)
    assert points.xy.tolist() == [[10, 20], [30, 40], [0, 5]]
    assert points.labels.tolist() == [1, 0, 0]


def test_mask_files(tmp_path: Path) -> None:
    two = np.zeros((4, 4), np.uint8)
    two[0, 0], two[2:, 2:] = 1, 3
    picture = Image.fromarray(two).convert("P")
    picture.putdata(two.ravel().tolist())
    picture.save(tmp_path / "two@1.png")
    prompts = parse_prompts([f"mask={tmp_path / 'two@1.png'}@5"])
    assert [(p.object_id, p.frame) for p in prompts] == [(1, 5), (3, 5)]
    assert isinstance(prompts[1], Mask)
    assert prompts[1].mask.tolist() == (two == 3).tolist()
    with pytest.raises(PromptError, match=r"objects \[1, 3\]"):
        parse_prompts([f"mask={tmp_path / 'two@1.png'}#2"])

    Image.fromarray((two == 3).astype(np.uint8) * 255).save(tmp_path / "binary.png")
    (lone,) = parse_prompts([f"mask={tmp_path / 'binary.png'}"])
    assert lone.object_id is None
    (named,) = parse_prompts([f"mask={tmp_path / 'binary.png'}#4"])
    assert named.object_id == 4


def test_json_file(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 255, np.uint8)).save(tmp_path / "m.png")
    entries = [
        {"box": [1, 2, 3, 4], "object_id": 2, "frame": 3},
        {"points": [[1, 2], [3, 4]], "labels": [1, 0], "seconds": 1.5},
        {"mask": "m.png"},
    ]
    for content in (entries, {"prompts": entries}):
        (tmp_path / "p.json").write_text(json.dumps(content))
        box, points, mask = parse_prompts([str(tmp_path / "p.json")])
        assert box == Box((1, 2, 3, 4), object_id=2, frame=3)
        assert points.seconds == 1.5
        assert isinstance(mask, Mask)
        assert mask.mask.all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold a list"),
        ('[{"frame": 1}]', "is not a prompt"),
        ('[{"box": [1, 2, 3]}]', "four finite numbers"),
        ('[{"box": [1, 2, 3, 4], "id": 3}]', "is not a prompt"),
        ('[{"box": 3}]', "is not a prompt"),
        ('[{"box": ["a", 2, 3, 4]}]', "is not a prompt"),
        ('[{"points": [[1, 2]], "labels": [2]}]', "labels must be"),
    ],
)
def test_bad_json(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(PromptError, match=message):
        load_prompts(tmp_path / "p.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("box", "needs coordinates"),
        ("points", "needs coordinates"),
        ("circle=1,2,3", "cannot read the prompt"),
        ("box=1,2,3", "cannot read the numbers"),
        ("box=1,2,3,x", "cannot read the numbers"),
        ("box=nan,0,1,1", "finite"),
        ("box=5,5,5,9", "no area"),
        ("box=9,9,5,5", "no area"),
        ("points=", "cannot read the numbers"),
        ("box=1,2,3,4@1@2", "two frame marks"),
        ("box=1,2,3,4#0", "count from 1"),
        ("box=1,2,3,4@1@2s", "frame or seconds"),
        ("mask=none.png", "none.png"),
        ("none.json", "cannot read the prompts"),
    ],
)
def test_bad_text(text: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        parse_prompts([text])


@given(st.text(max_size=30), st.sampled_from(["", "box=", "points=", "mask="]))
def test_wild_text_gives_prompts_or_a_clear_error(text: str, start: str) -> None:
    with contextlib.suppress(SamVideoError):  # anything else would fail the test
        assert parse_prompts([start + text])
