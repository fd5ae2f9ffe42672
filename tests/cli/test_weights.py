from pathlib import Path

import pytest
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.weights.catalog import CATALOG, checkpoint
from samvideo.weights.fetch import cached_path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMVIDEO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def call(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["weights", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_list_names_licence_and_state(home: Path) -> None:
    path = cached_path(checkpoint("edgetam"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not the published file")
    code, out, _ = call("list")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0
    assert set(lines) == set(CATALOG)
    assert "Apache-2.0" in lines["edgetam"]
    assert lines["edgetam"].endswith("cached")
    assert lines["surgical-sam2-s"].endswith("local file only")
    assert "none stated" in lines["surgical-sam2-s"]


def test_where(home: Path) -> None:
    assert call("where") == (0, f"{home / 'weights'}\n", "")


def test_verify(home: Path) -> None:
    assert call("verify") == (0, "", "nothing is cached\n")
    path = cached_path(checkpoint("edgetam"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not the published file")
    code, out, err = call("verify")
    assert code == 4
    assert "BAD" in out
    assert "git blob id" in err


def test_get_refuses_what_it_does_not_know() -> None:
    code, _, err = call("get", "edgtam")
    assert code == 2
    assert "did you mean 'edgetam'" in err
    code, _, err = call("get", "surgical-sam2-s-512")
    assert code == 4
    assert "by hand" in err
