"""`--policy NAME:OPTION=VALUE,...` of the commands and in Python, and `models --policies`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import samvideo
from samvideo.cli.main import app
from samvideo.errors import ConfigError
from samvideo.memory.fifo import FifoPolicy
from samvideo.memory.samurai import SamuraiPolicy
from samvideo.policies import parse_policy, policy_text
from samvideo.registry import MEMORY_POLICIES

PROMPT = ("-p", "box=20,40,80,90", "--model", "nano", "-o", "out", "--save", "csv", "-q")


def call(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("text", "policy", "recorded"),
    [
        ("fifo", FifoPolicy(), "fifo"),
        (
            " samurai : stable_frames=3, motion_weight=1,frames=6",
            SamuraiPolicy(stable_frames=3, motion_weight=1.0),
            "samurai:motion_weight=1.0,stable_frames=3",
        ),
        (
            "fifo:closest_first=true,nearest=2",
            FifoPolicy(nearest=2, closest_first=True),
            "fifo:nearest=2,closest_first=true",
        ),
        ("fifo:nearest=none,past_only=false", FifoPolicy(past_only=False), "fifo:past_only=false"),
        ("samurai-large:motion_weight=0.25", SamuraiPolicy(), "samurai-large:motion_weight=0.25"),
    ],
)
def test_values_have_the_types_of_the_options(text: str, policy: FifoPolicy, recorded: str) -> None:
    assert parse_policy(text) == policy == parse_policy(recorded)
    assert policy_text(text) == recorded == policy_text(recorded)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("samuray", "no memory policy 'samuray'; did you mean 'samurai'"),
        ("", "no memory policy ''; known: "),
        ("fifo:", "policy 'fifo:': options of memory policy 'fifo' are given as OPTION=VALUE,..., not ''; "),
        ("fifo:frames", "are given as OPTION=VALUE,..., not 'frames'; "),
        (
            "fifo:drm=3",
            "has no option 'drm'; its options and their defaults are: frames=6, pointers=15, prompted=8, near",
        ),
        ("samurai:filter=1", "has no option 'filter'"),
        ("fifo:frames=2.5", "'frames' of memory policy 'fifo' is a whole number, not '2.5'; its options"),
        ("fifo:nearest=some", "is a whole number or none, not 'some'"),
        ("fifo:closest_first=1", "is true or false, not '1'"),
        ("samurai:motion_weight=nan", "is a number, not 'nan'"),
        ("fifo:frames=1,frames=2", "option 'frames' of memory policy 'fifo' is given twice"),
        ("fifo:frames=9", "policy 'fifo:frames=9': frames must be 0 to 6"),
    ],
)
def test_messages_name_value_options_and_defaults(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_policy(text)
    assert message in str(caught.value)


def test_policies_are_explained_in_a_line_each() -> None:
    code, out, _ = call("models", "--policies")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert next(iter(lines)) == "fifo"
    assert set(lines) == set(MEMORY_POLICIES.all())
    assert "(SAM 2, Ravi et al. 2024); cost: the reference; options: frames=6, pointers=15" in lines["fifo"]
    assert "options: motion_weight=0.15, stable_frames=15" in lines["samurai-large"]
    assert lines["samurai-large"].endswith("those of fifo")
    assert "frames=6, " not in lines["samurai"]


def test_a_run_records_it_in_one_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call("demo-clip", "clip.mp4", "--frames", 6, "--width", 160, "--height", 96)
    track = ("track", "clip.mp4", *PROMPT)
    assert call(*track, "--end", 3, "--policy", "fifo: stride=2,frames=4,prompted=8")[0] == 0
    record = json.loads(Path("out/run.json").read_text())
    assert record["settings"]["options"]["policy"] == "fifo:frames=4,stride=2"
    for command in (track, ("ui", "clip.mp4", "--no-browser"), ("bench",)):
        code, _, err = call(*command, "--policy", "fifo:drm=3")
        assert (code, "no option 'drm'" in err) == (2, True)


def test_in_python() -> None:
    assert samvideo.build("vit-ti", policy="fifo:frames=2", input_size=64).policy == FifoPolicy(frames=2)
    assert samvideo.load("nano", policy="fifo:pointers=0").policy == FifoPolicy(pointers=0)
    with pytest.raises(ConfigError, match="has no option 'x'"):
        samvideo.load("sam2.1-large", policy="fifo:x=1")
