"""Broken inputs of every kind: no traceback, no hang, little memory, nothing written outside the given folders.

`SAMVIDEO_FUZZ_SECONDS` is the time of all kinds together, `SAMVIDEO_FUZZ_SEED` the first of the examples.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KINDS = ("video", "masks", "prompts", "runs", "datasets", "weights")
SECONDS = float(os.environ.get("SAMVIDEO_FUZZ_SECONDS", "20")) / len(KINDS)
MEGABYTES = 1000


@pytest.mark.parametrize("kind", KINDS)
def test_broken_inputs(tmp_path: Path, kind: str) -> None:
    work, sentinel = tmp_path / "work", tmp_path / "sentinel"
    for folder in (work, sentinel):
        folder.mkdir()
        (folder / "mine.txt").write_text("mine")
    paths = os.pathsep.join(map(str, (HERE, HERE / "helpers", HERE / "evaluation")))
    command = [sys.executable, str(HERE / "helpers" / "fuzzing.py"), kind, str(SECONDS)]
    done = subprocess.run(
        [*command, os.environ.get("SAMVIDEO_FUZZ_SEED", "0")],
        cwd=work,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS + 300,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    tried, peak = map(int, done.stdout.split()[-2:])
    assert tried > 0
    assert peak < MEGABYTES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sentinel", "work"]
    assert [path.name for path in sentinel.iterdir()] == ["mine.txt"]
    assert (work / "mine.txt").read_text() == "mine"
