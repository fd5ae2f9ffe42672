import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from samvideo.errors import ConfigError, PromptError, SamVideoError
from samvideo.moments import parse_moment
from samvideo.prompt_syntax import load_prompts, parse_prompts
from samvideo.types import Box, Mask, Points


def test_box_with_moment_and_id() -> None:
    (plain,) = parse_prompts(["box=1,2,30,40.5"])
    assert plain == Box((1, 2, 30, 40.5))
    (frame,) = parse_prompts(["box=1,2,3,4@12#7"])
    assert frame == Box((1, 2, 3, 4), object_id=7, frame=12)
    (seconds,) = parse_prompts(["box=1,2,3,4#7@12.5s"])
    assert seconds == Box((1, 2, 3, 4), object_id=7, seconds=12.5)


@pytest.mark.parametrize("moment", ["7", "12.5s", "12.5", "0:00.4", "1:02.5", "1:02:03.5"])
def test_a_prompt_takes_the_moments_that_start_takes(moment: str) -> None:
    (box,) = parse_prompts([f"box=1,2,3,4@{moment}#2"])
    given = box.frame if box.seconds is None else box.seconds
    assert (given, type(given)) == (parse_moment(moment), type(parse_moment(moment)))


@pytest.mark.parametrize("moment", ["1:99", "1:60.0", "1:75:00"])
def test_minutes_and_seconds_after_a_colon_are_below_60(moment: str) -> None:
    with pytest.raises(ConfigError, match="after a colon are below 60"):
        parse_moment(moment)


def test_a_box_of_one_pixel_is_in_whole_numbers() -> None:
    assert parse_prompts(["box=0,0,1,1"]) == [Box((0, 0, 1, 1))]


def test_one_click_in_shares_of_the_frame_is_told(caplog: pytest.LogCaptureFixture) -> None:
    parse_prompts(["points=0.25,0.33"])
    assert "coordinates are pixels" in caplog.text


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
    with pytest.raises(PromptError, match="object_id is 0"):
        parse_prompts([f"mask={tmp_path / 'binary.png'}#0"])
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
        ("[]", "holds no prompt"),
        ('{"prompts": 3}', "prompts is 3: .* valid array"),
        ("3", "the document is 3"),
        ('[{"frame": 1}]', r"prompts.0: one of box, points .* expected"),
        ('[{"box": [1, 2, 3]}]', "four finite numbers"),
        ('[{"box": [1, 2, 3, 4], "id": 3}]', r"prompts.0.id is not known; a list of"),
        ('[{"box": 3}]', "four finite numbers .* not 3"),
        ('[{"box": ["a", 2, 3, 4]}]', "four finite numbers .* not .'a'"),
        ('[{"points": [[1, 2]], "labels": [2]}]', "labels must be"),
        ('[{"points": [[1, 2], [1]]}]', "list of finite"),
        ('[{"points": [["a", {}]]}]', "list of finite"),
        ('[{"box": [true, 2, 3, 4]}]', "four finite numbers"),
        ('[{"box": [NaN, 2, 3, 4]}]', "four finite numbers"),
        ('[{"box": [1, 2, 1e999, 4]}]', "four finite numbers"),
        ('[{"box": null}]', "one of box, points"),
        ('[{"box": [1, 2, 3, 4], "mask": "m.png"}]', "one of box, points"),
        ('[{"box": [1, 2, 3, 4], "labels": [1]}]', "one of box, points"),
        ('[{"box": [1, 2, 3, 4], "seconds": "0.1"}]', "prompts.0: seconds is '0.1': a number"),
        ('[{"box": [1, 2, 3, 4], "seconds": NaN}]', "prompts.0: seconds is nan"),
        ('[{"mask": {"size": [1, 2]}}]', "prompts.0.mask is .'size'.*valid string"),
        ('[{"mask": "a\\u0000.png"}]', "cannot be read"),
        ("[" * 2000 + "]" * 2000, "is not JSON .recursion"),
        ('{"prompts": null}', "prompts is None"),
    ],
)
def test_bad_json(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(PromptError, match=message):
        load_prompts(tmp_path / "p.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_json_file_of_another_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "p.json").write_bytes('[{"box": [1, 2, 3, 4]}]\r\n'.encode(encoding))
    assert load_prompts(tmp_path / "p.json") == [Box((1, 2, 3, 4))]


@pytest.mark.parametrize(("field", "most"), [("object_id", 2**31 - 1), ("frame", 2**53)])
def test_numbers_of_prompts_are_whole(tmp_path: Path, field: str, most: int) -> None:
    path = tmp_path / "p.json"
    for text in ("1", "1.0", "1e0"):
        path.write_text(f'[{{"box": [1, 2, 3, 4], "{field}": {text}}}]')
        (prompt,) = load_prompts(path)
        assert (getattr(prompt, field), type(getattr(prompt, field))) == (1, int)
    for text in ("1.5", "true", '"2"', "-1", "[1]", "{}", "1e300", str(most + 1), "9" * 4000, "9" * 9000, "NaN"):
        path.write_text(f'[{{"box": [1, 2, 3, 4]}}, {{"box": [1, 2, 3, 4], "{field}": {text}}}]')
        with pytest.raises(PromptError, match=rf"{path}.*(prompts.1: {field} is|not JSON)") as caught:
            load_prompts(path)
        assert len(str(caught.value)) < 600


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
        ("box=1,2,3,4#0", "object_id is 0: a whole number from 1 to 2147483647"),
        ("box=1,2,3,4@1@2s", "frame or seconds"),
        ("mask=none.png", "none.png"),
        ("none.json", "none.json cannot be read"),
        ("box=1,2,3,4#99999999999", "object_id is 99999999999: .* to 2147483647"),
        ("box=1,2,3,4#" + "9" * 5000, "the number of an object"),
        ("box=1,2,3,4#1.5", "the number of an object"),
        ("box=1,2,3,4#-1", "the number of an object"),
        ("box=1,2,3,4@" + "9" * 5000, "cannot read the moment"),
        ("box=1,2,3,4@" + "9" * 30, "after the end of any video"),
        ("box=1,2,3,4@-1", "cannot read the moment '-1'"),
        ("box=1,2,3,4@1:2:3:4", "cannot read the moment '1:2:3:4'"),
        ("box=0.25,0.33,0.48,0.67", "shares of the frame, multiply"),
        ("box=0.5,0.5,0.2,0.3", "shares of the frame, multiply"),
        ("box=0,0,0.5,1", "shares of the frame, multiply"),
        ("points=0.2,0.3/0.4,0.5", "shares of the frame, multiply"),
        ("box=1e300,2,1e301,4", "finite numbers"),
        ("points=1e39,2", "finite"),
    ],
)
def test_bad_text(text: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        parse_prompts([text])


@given(st.text(max_size=30), st.sampled_from(["", "box=", "points=", "mask="]))
def test_wild_text_gives_prompts_or_a_clear_error(text: str, start: str) -> None:
    with contextlib.suppress(SamVideoError):  # anything else would fail the test
        assert parse_prompts([start + text])
