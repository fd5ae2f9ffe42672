"""Components of other distributions: found by their entry points, listed, used, and harmless when broken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import samvideo

PLUGIN = {
    "tiny/__init__.py": "",
    "tiny/tracker.py": """
from samvideo.trackers.specs import TrackerSpec

def build(options):
    from samvideo.trackers.flow import FlowTracker
    return FlowTracker()

VARIANTS = {"tinytracker": TrackerSpec("tinytracker", build, "flow under another name")}
""",
    "tiny/encoder.py": """
from samvideo.encoders import vit

KIND = "encoder"
VARIANTS = {"tinyenc-a": vit.VARIANTS["vit-ti"]}
build = vit.build
""",
    "tiny/policy.py": """
from samvideo.memory.fifo import FifoPolicy, build

KIND = "memory policy"
VARIANTS = {"tinypolicy": FifoPolicy(frames=2)}
""",
    "tiny/data.py": """
from samvideo.evaluation.datasets import folder
from samvideo.evaluation.datasets.base import DatasetSpec

VARIANTS = {"tinydata": DatasetSpec(("all",), folder.TREE, lambda root: False, folder.load)}
""",
    "tiny/export.py": """
from samvideo.exports.base import Format

VARIANTS = {"tinyformat": Format(lambda job: job.out.write_text(str(job.object_ids)), ".tiny", "object ids")}
""",
}
ENTRY_POINTS = """
[samvideo.trackers]
tinytracker = tiny.tracker
[samvideo.encoders]
tinyenc = tiny.encoder
[samvideo.memory]
tinypolicy = tiny.policy
[samvideo.datasets]
tinydata = tiny.data
[samvideo.exports]
tinyformat = tiny.export
"""


def install(site: Path, name: str, entry_points: str, files: dict[str, str]) -> None:
    """Lay a distribution out as pip would."""
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with a folder of distributions on its path."""
    environment = os.environ | {"PYTHONPATH": str(site), "SAMVIDEO_HOME": str(site / "home"), "COLUMNS": "200"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=site, capture_output=True, text=True)


def command(site: Path, *arguments: str) -> str:
    """Run the command line; return what it prints."""
    done = run(site, "-m", "samvideo", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(tmp_path, "tiny-plugin", ENTRY_POINTS, PLUGIN)
    return tmp_path


def test_a_plugin_is_listed(site: Path) -> None:
    models = command(site, "models") + command(site, "models", "--parts")
    for name in ("tinytracker", "tinyenc-a", "tinypolicy"):
        assert name in models
    assert "nano, tinytracker (no download)" in " ".join(command(site, "track", "--help").split())
    assert "tinydata" in command(site, "evaluate", "--help")
    assert "tinyformat" in command(site, "export", "--help")
    unknown = run(site, "-m", "samvideo", "evaluate", "nonsense", ".", "-o", "out")
    assert unknown.returncode == 2
    assert "tinydata" in unknown.stderr
    unknown = run(site, "-m", "samvideo", "track", "clip.mp4", "-p", "box=1,1,9,9", "--model", "tinytraker")
    assert "did you mean 'tinytracker'" in unknown.stderr


def test_a_plugin_is_used(site: Path) -> None:
    command(site, "demo-clip", "clip.mp4", "--frames", "4", "--width", "160", "--height", "96", "--truth", "truth")
    command(site, "track", "clip.mp4", "-p", "mask=truth/00000.png", "--model", "tinytracker", "-o", "run")
    command(site, "export", "run", "-f", "tinyformat", "-o", "ids.tiny")
    assert (site / "ids.tiny").read_text() == "(1, 2, 3)"
    (site / "data").mkdir()
    (site / "truth").rename(site / "data/clip")
    assert "J&F 100.00" in command(site, "score", "tinydata", "data", "data")
    build = "from samvideo.models import build; m = build('tinyenc-a', policy='tinypolicy'); print(m.policy.frames)"
    done = run(site, "-c", build)
    assert done.stdout == "2\n", done.stderr


def test_a_broken_plugin_is_named_and_breaks_nothing_else(site: Path) -> None:
    points = "[samvideo.datasets]\nbad = bad.missing\nempty = bad\n[samvideo.exports]\nwrong = bad.wrong\n"
    files = {"bad/__init__.py": "", "bad/wrong.py": "VARIANTS = {'wrong': 1}"}
    install(site, "bad-plugin", points, files)
    listed = command(site, "evaluate", "--help")
    assert "tinydata" in listed
    assert "bad-plugin 1.0 is left out: bad.missing cannot be imported (ModuleNotFoundError" in listed
    assert "bad-plugin 1.0 is left out: bad has no VARIANTS" in listed
    assert "bad-plugin 1.0 offers export format 'wrong', not a Format" in command(site, "export", "--help")
    unknown = run(site, "-m", "samvideo", "evaluate", "bad", ".", "-o", "out")
    assert unknown.returncode == 2
    assert "(unusable plug-ins: bad-plugin 1.0)" in unknown.stderr


def test_two_components_of_one_name_are_reported_and_the_first_is_used(site: Path) -> None:
    other = PLUGIN["tiny/tracker.py"].replace('"tinytracker"', '"nano"')
    install(site, "other", "[samvideo.trackers]\nnano = other_tracker\n", {"other_tracker.py": other})
    assert "samvideo and other 1.0 both offer a model 'nano': the first one is used" in command(site, "models")
    code = "from samvideo.trackers.factory import create_tracker; print(type(create_tracker('nano')).__name__)"
    done = run(site, "-c", code)
    assert done.stdout == "SamTracker\n"
    assert "both offer a model 'nano'" in done.stderr


@pytest.mark.parametrize(
    "verb", ["", "track", "ui", "evaluate", "score", "export", "bench", "models", "train nano"]
)
def test_help_never_imports_torch(verb: str, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom samvideo.cli.main import app\n"
        f"try:\n    app({[*verb.split(), '--help']})\n"
        "except SystemExit:\n    print('torch' in sys.modules)"
    )
    done = run(tmp_path, "-c", code)
    assert done.stdout.endswith("False\n"), done.stderr


def test_all_exported_names_are_listed() -> None:
    assert set(samvideo.__all__) == set(samvideo._HOME)
