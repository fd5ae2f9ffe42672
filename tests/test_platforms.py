"""What differs on Windows and macOS, as far as it can be seen on any system."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from tiny_sam import tiny_tracker
from torch.utils._python_dispatch import TorchDispatchMode

from samvideo.errors import ConfigError
from samvideo.io.container import is_address, url_of
from samvideo.segment_folder import check_stems
from samvideo.torch_runtime import resolve_device
from samvideo.trackers.base import Tracker
from samvideo.trackers.factory import create_tracker
from samvideo.types import Box, Frame, Mask, Points

ROOT = Path(__file__).parent.parent
FOLDERS = ("samvideo", "memory", "trackers", "evaluation", "demos")
# Modules of the standard library that Windows does not have.
UNIX_ONLY = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}
TEXT_CALLS = {"read_text": 0, "write_text": 1}
"""Methods that read or write text, and the place of their encoding among the arguments."""


@cache
def modules() -> list[tuple[Path, ast.Module]]:
    paths = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    return [(path, ast.parse(path.read_text("utf-8"))) for path in paths]


@cache
def calls() -> list[tuple[str, ast.Call]]:
    """Every call in the code, and where it is."""
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno}", node)
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


def name_of(call: ast.Call) -> str:
    return str(getattr(call.func, "attr", getattr(call.func, "id", "")))


def opens_text(call: ast.Call) -> bool:
    """Whether a call of `Path` or `open` is of text without an encoding, which would be the system's."""
    name = name_of(call)
    if any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    if name in TEXT_CALLS:
        return len(call.args) <= TEXT_CALLS[name]
    at = 0 if isinstance(call.func, ast.Attribute) else 1  # Path.open has no path
    mode = call.args[at].value if len(call.args) > at and isinstance(call.args[at], ast.Constant) else None
    return name == "open" and mode in {"r", "w", "a", "x", "r+", "w+"}


def test_text_is_opened_with_an_encoding() -> None:
    assert not [where for where, call in calls() if opens_text(call)]


def test_no_module_of_unix_is_imported_with_the_package() -> None:
    for path, tree in modules():
        for node in tree.body:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not UNIX_ONLY & set(names), f"{path} imports {names} at its top"


def test_memory_is_zero_where_neither_proc_nor_resource_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from samvideo.evaluation import meter

    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(meter, "Path", lambda path: Path("/nowhere") / Path(path).name)
    meter.reset_peak_memory(torch.device("cpu"))
    assert meter.peak_memory(torch.device("cpu")) == 0


def test_signals_of_windows_end_a_run_between_frames() -> None:
    code = """
import signal
del signal.SIGHUP
signal.SIGBREAK = signal.SIGUSR1
import samvideo.cli.main
from samvideo.interrupt import SIGNALS, Interrupt
assert SIGNALS == (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK), SIGNALS
with Interrupt() as stop:
    assert not stop.requested
    signal.raise_signal(signal.SIGBREAK)
    assert stop.requested
assert signal.getsignal(signal.SIGBREAK) == signal.SIG_DFL
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_a_path_of_windows_is_no_address() -> None:
    for path in (r"C:\clips\a.mp4", "C:/clips/a.mp4", r"\\server\clips\a.mp4"):
        assert not is_address(path)
        assert url_of(PureWindowsPath(path)).startswith("file:")  # type: ignore[arg-type]


@pytest.mark.parametrize(("system", "refused"), [("linux", False), ("darwin", True), ("win32", True)])
def test_results_that_differ_by_capitals(system: str, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", system)
    images = [Path("Frame.png"), Path("frame.jpg")]
    if refused:
        with pytest.raises(ConfigError, match="would have the same name, frame"):
            check_stems(images, multimask=False)
    else:
        check_stems(images, multimask=False)


def test_processes_are_spawned() -> None:
    """As on Windows and macOS, so that the tests of several processes are true of those, too."""
    for where, call in calls():
        name = name_of(call)
        assert name not in ("fork", "forkpty", "ProcessPoolExecutor"), f"{where} may fork"
        if name == "get_context":
            assert [getattr(a, "value", None) for a in call.args] == ["spawn"], f"{where} may fork"
        if name == "DataLoader":
            assert "multiprocessing_context" in {k.arg for k in call.keywords}, f"{where} may fork"


class Formats(TorchDispatchMode):
    """Records the number formats of all tensors that operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[torch.dtype, str] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                self.made.setdefault(value.dtype, str(function))
        return out


def prompted(tracker: Tracker) -> None:
    """Track objects from a box, from clicks and from a mask, and correct one of them."""
    given = np.zeros((48, 64), bool)
    given[10:30, 40:60] = True
    prompts = {
        0: (Box((4, 18, 26, 40), object_id=1), Mask(given, object_id=2)),
        2: (Points([(12, 30), (50, 40)], [1, 0], object_id=1),),
    }
    for index in range(4):
        rgb = np.full((48, 64, 3), 90, np.uint8)
        rgb[20:38, 6 + index : 24 + index] = (220, 40, 40)
        tracker.step(Frame(index, index / 25, rgb), prompts.get(index, ()))


@pytest.mark.parametrize(("name", "kept"), [("nano", set()), ("tiny", {torch.bfloat16})])
def test_trackers_on_apple_silicon_compute_in_float32(
    name: str, kept: set[torch.dtype], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MPS has no float64; memory tokens, which are kept in bfloat16 as in SAM 2, need macOS 14."""
    with monkeypatch.context() as apple:
        apple.setattr(torch.cuda, "is_available", lambda: False)
        apple.setattr(torch.backends.mps, "is_available", lambda: True)
        device, dtype = resolve_device("auto", "auto")
    assert (device.type, dtype) == ("mps", torch.float32)
    options: Any = {"device": "cpu", "dtype": "fp32"}
    tracker = tiny_tracker(**options) if name == "tiny" else create_tracker("nano", **options)
    prompted(tracker)
    tracker.reset()
    with Formats() as formats:
        prompted(tracker)
    assert formats.made.keys() == {torch.float32} | kept, formats.made
