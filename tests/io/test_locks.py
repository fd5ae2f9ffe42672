"""Two processes never write into one output folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from samvideo.errors import ConfigError, OutputError
from samvideo.io.files import LOCK, check_empty
from samvideo.io.locks import folder_lock


def test_second_lock_is_refused_at_once(tmp_path: Path) -> None:
    with folder_lock(tmp_path), pytest.raises(ConfigError, match="another samvideo process writes into"):
        with folder_lock(tmp_path):
            pytest.fail("locked twice")
    with folder_lock(tmp_path):
        check_empty(tmp_path, overwrite=False)
    assert not list(tmp_path.iterdir())


def test_only_empty_folders_made_for_the_lock_are_removed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("there", "a/b", "kept/b"):
        with folder_lock(tmp_path / name):
            if name == "kept/b":
                (tmp_path / "kept/file").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "kept", "there"]


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    script = "import sys, time; from pathlib import Path; from samvideo.io.locks import folder_lock\n"
    script += "with folder_lock(Path(sys.argv[1])): print('locked', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout
    with process.stdout:
        process.stdout.readline()
        with pytest.raises(ConfigError, match="another samvideo process"), folder_lock(tmp_path):
            pytest.fail("locked twice")
        process.kill()
        process.wait()
    assert (tmp_path / LOCK).exists()
    check_empty(tmp_path, overwrite=False)
    with folder_lock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"), folder_lock(tmp_path / "file"):
        pytest.fail("a file was locked as a folder")
