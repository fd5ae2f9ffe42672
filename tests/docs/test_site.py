"""The documentation site: it builds without a warning, and its pages load nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from doc_blocks import ROOT

LOADED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?(https?:|//)[^>]*>")
LOADED_BY_CSS = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:|//)[^)]*")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocstrings", reason="pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_pages_load_nothing_from_the_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for path in pages:
        text = path.read_text()
        assert not LOADED.search(text), f"{path.name}: {LOADED.search(text)}"
        assert not LOADED_BY_CSS.search(text), path.name
    for path in site.rglob("*.css"):
        assert not LOADED_BY_CSS.search(path.read_text()), path.name


def test_generated_pages_are_complete(site: Path) -> None:
    commands, python = (site / "cli.html").read_text(), (site / "api.html").read_text()
    for name in ("samvideo track", "samvideo train prompter", "samvideo weights get"):
        assert f'id="{name.replace(" ", "-")}"' in commands
    assert "--first-mask" in commands
    assert "{datasets}" not in commands
    for name in ("samvideo.Box", "samvideo.track", "samvideo.FrameResult.mask"):
        assert f'id="{name}"' in python


@pytest.mark.parametrize("name", ["streaming", "memory", "methods", "policies"])
def test_figures_are_those_that_the_code_draws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    from figures import FIGURES

    drawn = (ROOT / "docs" / f"concept-{name}.svg").read_text()
    assert str(FIGURES[name]()) == drawn, "run `python docs/figures.py` and look at the figures"
