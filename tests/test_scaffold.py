"""Packages of plug-ins as `samvideo new` writes them: installed, tested by their own tests, and used."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.scaffold import KINDS

NAMES = {"encoder": "my-net", "policy": "my-policy", "dataset": "my-videos"}


def command(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    return done.exit_code, done.stdout, done.stderr


def run(folder: Path, *arguments: str) -> str:
    """Run Python where the installed plug-ins are found; return what it prints."""
    environment = os.environ | {"PYTHONPATH": str(folder / "site"), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plug-in of each kind, installed into `site` by pip."""
    for needed in ("setuptools", "pip"):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    folder = tmp_path_factory.mktemp("plugins")
    for kind, name in NAMES.items():
        code, said, error = command("new", kind, name, "-o", folder / name)
        assert code == 0, error
        assert f"makes samvideo find '{name}'" in said
    install = ("install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", "site")
    run(folder, "-m", "pip", *install, *(f"./{name}" for name in NAMES.values()))
    return folder


def test_their_own_tests_pass(installed: Path) -> None:
    folders = [f"{name}/tests" for name in NAMES.values()]
    assert "7 passed" in run(installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", *folders)


def test_they_are_used_by_the_commands(installed: Path) -> None:
    for name in ("frames", "masks"):
        (installed / "data" / name / "one").mkdir(parents=True)
    for index in range(4):
        mask = np.zeros((96, 128), np.uint8)
        mask[20:60, 10 + 4 * index : 60 + 4 * index] = 1
        picture = np.where(mask[..., None], 220, np.indices(mask.shape).sum(0)[..., None] % 97).astype(np.uint8)
        Image.fromarray(mask).save(installed / f"data/masks/one/{index:05d}.png")
        Image.fromarray(picture.repeat(3, 2)).save(installed / f"data/frames/one/{index:05d}.png")
    commands = (
        "models --parts",
        "track data/frames/one -p box=10,20,60,60 --policy my-policy:least_quality=0.25 -o tracked",
        "evaluate my-videos data --model flow -o results",
    )
    calls = [f"app({line.split()}, standalone_mode=False)" for line in commands]
    said = run(installed, "-c", "\n".join(["from samvideo.cli.main import app", *calls]))
    encoders, _, policies = said.splitlines()[:3]
    assert encoders.endswith(", my-net")
    assert policies.endswith(", my-policy")
    assert "my-policy:least_quality=0.25" in (installed / "tracked/run.json").read_text()
    assert len(list((installed / "tracked/masks").iterdir())) == 4
    assert "my-videos" in said
    assert "J&F" in said


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("tracker", "my-net", "no kind of plug-in 'tracker': encoder, policy, dataset expected"),
        ("policy", "my_policy", "'my_policy' is not a valid component name: .* such as my-net"),
        ("policy", "../up", "'../up' is not a valid component name"),
        ("policy", "-", "'-' is not a valid component name"),
        ("policy", "a" * 41, "at most 40 lowercase letters"),
        ("policy", "samurai", "the name 'samurai' is taken: choose another, such as my-samurai"),
        ("encoder", "repvit-m1", "the name 'repvit-m1' is taken"),
        ("encoder", "edgetam", "the name 'edgetam' is taken"),
        ("dataset", "davis2017", "the name 'davis2017' is taken"),
        ("dataset", "run", "the name 'run' is taken"),
    ],
)
def test_what_is_refused(
    kind: str, name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = command("new", "--", kind, name)
    assert code == 2
    assert re.search(message, error), error
    assert not list(tmp_path.iterdir())


def test_where_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert command("new", "policy", "mine", "-o", "empty")[0] == 0
    assert command("new", "policy", "mine")[0] == 0
    files = ["README.md", "pyproject.toml", "samvideo_mine.py", "tests/test_samvideo_mine.py"]
    for folder in (tmp_path / "empty", tmp_path / "samvideo-mine"):
        assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == files
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        code, _, error = command("new", "policy", "mine", "-o", folder)
        assert (code, f"{folder} exists: choose another folder with -o" in error) == (2, True)
        assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_kind_is_tried() -> None:
    assert NAMES.keys() == KINDS.keys()
