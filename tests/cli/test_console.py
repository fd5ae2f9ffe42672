"""Output that cannot be written ends a command quietly, any encoding will do, and shells complete names."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clips import write_clip


def shell(command: str, folder: Path, **environment: str) -> tuple[int, str, str]:
    """Exit code of the first command of a pipe, and what was said."""
    command = "set -o pipefail; " + command.replace("samvideo", f"'{sys.executable}' -m samvideo")
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, env={**os.environ, **environment}, timeout=120
    )
    said = done.stderr.decode(errors="replace")
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    return done.returncode, done.stdout.decode(errors="replace"), said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("console")
    write_clip(folder / "日本.mp4", 3)
    return folder


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("samvideo --help | true", 5, ""),
        ("samvideo --help > /dev/full", 5, "No space left"),
        ("samvideo info *.mp4 >&-", 5, "Bad file descriptor"),
        ("samvideo info *.mp4 2>&-", 0, ""),
        ("samvideo info none >&- 2>&-", 3, ""),
        ("samvideo info none 2> /dev/full", 3, ""),
        ("samvideo evaluate > /dev/full", 2, "Missing argument"),
    ],
)
def test_output_that_cannot_be_written(folder: Path, command: str, code: int, said: str) -> None:
    found = shell(command, folder)
    assert found[0] == code
    assert said in found[2]


@pytest.mark.parametrize("encoding", ["cp437", "ascii"])
def test_a_console_of_another_encoding(folder: Path, encoding: str) -> None:
    code, out, _ = shell("samvideo export --help && samvideo info *.mp4 --json", folder, PYTHONIOENCODING=encoding)
    assert code == 0
    assert "--format" in out
    assert json.loads(out.splitlines()[-1])["name"] == "日本"
    code, out, _ = shell("samvideo info *.mp4", folder, PYTHONIOENCODING=encoding)
    assert (code, "h264" in out) == (0, True)
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["width"].endswith(" pixels")
    assert lines["duration"].endswith(" s")
    assert lines["rate"].endswith(" frames per second")


@pytest.mark.parametrize(
    ("name", "words", "found"),
    [
        ("bash", "track v.mp4 --model fl", {"flow"}),
        ("zsh", "evaluate davis", {"davis2016", "davis2017", "davis2017-unsupervised"}),
        ("fish", "export run -f coco-", {"coco-polygons", "coco-video"}),
        ("bash", "exp", {"export", "export-model"}),
    ],
)
def test_shells_complete_names(name: str, words: str, found: set[str]) -> None:
    line = f"samvideo {words}"
    count = len(line.split())
    environment: dict[str, Any] = {"COMP_WORDS": line, "COMP_CWORD": str(count - 1), "_TYPER_COMPLETE_ARGS": line}
    environment |= {"_SAMVIDEO_COMPLETE": f"complete_{name}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    code = "import sys; sys.argv[0] = 'samvideo'; from samvideo.cli.main import main\n"
    code += "try: main()\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert all(word in done.stdout for word in found)
    assert len(done.stdout.splitlines()) == len(found)


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_script_for_completion_is_shown(tmp_path: Path, name: str) -> None:
    code, out, _ = shell(
        f"samvideo --show-completion {name}", tmp_path, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert code == 0
    assert f"complete_{name}" in out
