"""The published implementations' own outputs, reproduced; see README.md here for what the fixtures are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from check import main, run, seeded_model
from published import Options
from seeded import seeded_frame

from samvideo.specs import SPECS
from samvideo.state_dict import spec_shapes
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers import sam
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Frame, Mask, Points

HERE = Path(__file__).parent
FIXTURES = HERE / "fixtures"
SMALL = sorted(p.stem for p in FIXTURES.glob("*-512--*.npz"))
# nine frames and more: pruning, pooling and the turnover of the bank are reached
LARGE = {
    "edgetam--box": 9,
    "sam2.1-tiny--box": 8,
    "efficienttam-ti-1--box": 8,
    "efficienttam-ti-2--box": 8,
    "sam2.1-tiny--samurai": 23,  # its decisions alone: tests/memory/test_samurai.py
    "sam2.1-tiny--sam2long": 15,  # likewise: tests/memory/test_sam2long.py
    "sam2.1-tiny--dam4sam": 23,  # likewise
}
LONG = LARGE | {"sam2.1-tiny--dam4sam-span": 23}


def manifest(name: str) -> dict:
    return json.loads((FIXTURES / f"{name}.manifest.json").read_text())


@pytest.fixture(autouse=True)
def _threads():  # type: ignore[no-untyped-def]
    """Two threads, or one where other tests run beside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", SPECS)
def test_keys_and_shapes_are_the_published_ones(name: str) -> None:
    assert spec_shapes(SPECS[name]) == {key: tuple(shape) for key, (shape, _) in manifest(name).items()}


@pytest.mark.parametrize("stem", SMALL)
def test_small_input(stem: str) -> None:
    report = run(FIXTURES / f"{stem}.npz")
    assert report.passed, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("stem", LARGE)
def test_first_frames_of_large_input(stem: str) -> None:
    report = run(FIXTURES / f"{stem}.npz", last_frame=2)
    assert report.passed, str(report)


@pytest.mark.long
@pytest.mark.parametrize("stem", LONG)
def test_large_input(stem: str) -> None:
    report = run(FIXTURES / f"{stem}.npz", last_frame=LONG[stem])
    assert report.passed, str(report)


def frame(index: int, size: int = 512) -> Frame:
    return Frame(index, index / 25, seeded_frame(index, size))


def assert_published(tracker: SamTracker, fixture: dict, tag: str, index: int) -> None:
    for object_id, tracked in tracker.objects.items():
        expected = fixture[f"{tag}/{index}/{object_id}/mask_logits"]
        got = tracked.best.known_prediction.logits[0, 0, ::4, ::4].numpy()
        assert np.linalg.norm(got - expected) <= 1e-3 * np.linalg.norm(expected), f"{tag}, frame {index}"


@pytest.mark.parametrize("name", ["efficienttam-ti-512", "surgical-sam2-s-512"])
def test_the_streaming_tracker_gives_the_published_masks(name: str) -> None:
    """The bounded, frame-by-frame loop equals the published predictor, which frees nothing."""
    fixture = dict(np.load(FIXTURES / f"{name}--box.npz"))
    tracker = SamTracker(TorchRuntime(seeded_model(name, manifest(name))))
    box = Box(object_id=1, xyxy=(56, 136, 224, 304))
    for index in range(10):
        tracker.step(frame(index), [box] if index == 0 else [])
        assert_published(tracker, fixture, "box", index)


def test_a_streamed_correction_gives_the_published_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two objects in one batch, one corrected on frame 5; the fixture pins without clearing what is near."""
    monkeypatch.setattr(sam, "CLEAR_RADIUS", -1)
    name = "efficienttam-ti-512"
    fixture = dict(np.load(FIXTURES / f"{name}--interact-pinned.npz"))
    tracker = SamTracker(TorchRuntime(seeded_model(name, manifest(name))))
    y, x = np.mgrid[:512, :512] + 0.5
    disc = (x - 360) ** 2 + (y - 120) ** 2 <= 48**2
    tracker.step(frame(0), [Points(object_id=1, xy=[(140, 220)]), Mask(object_id=2, mask=disc)])
    for index in range(1, 6):
        tracker.step(frame(index))
        assert_published(tracker, fixture, "first", index)
    tracker.step(frame(5), [Points(object_id=1, xy=[(200, 224), (360, 400)], labels=[1, 0])])
    for index in range(5, 10):
        tracker.step(frame(index))
        assert_published(tracker, fixture, "corrected", index)


def fake(folder: Path, steps: list, options: dict | None = None, expected: dict | None = None) -> Path:
    """A folder with a scenario of its own."""
    scenario = {"frames": [0, 1, 2, 3, 4], "steps": steps, "set": options or {}}
    (folder / "own.scenario.json").write_text(json.dumps(scenario))
    name = "efficienttam-ti-512"
    (folder / f"{name}.manifest.json").write_text(json.dumps(manifest(name)))
    np.savez(folder / f"{name}--own.npz", **(expected or {}))
    return folder / f"{name}--own.npz"


STEPS = [
    {"prompt": {"frame": 2, "object": 1, "box": [28, 68, 112, 152], "points": [[70, 110]], "labels": [1]}},
    {"propagate": {"tag": "on", "max": 1}},
    {"prompt": {"frame": 3, "object": 2, "disc": [180, 60, 24]}},
    {"propagate": {"tag": "back", "start": 3, "reverse": True}},
]


def test_every_step_kind_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reverse, maximum length, objects added later: which frames and objects come, and that options are taken."""
    path = fake(tmp_path, STEPS, options={"max_cond_frames_in_attn": 2, "memory_temporal_stride_for_eval": 2})
    seen: list[str] = []
    monkeypatch.setattr("check.compare", lambda report, fixture, key, output: seen.append(key))
    run(path)
    assert seen == ["on/2/1", "on/3/1", *(f"back/{f}/{o}" for o in (1, 2) for f in (3, 2, 1, 0))]


def test_unknown_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown option"):
        run(fake(tmp_path, STEPS, options={"colour": 1}))
    with pytest.raises(ValueError, match="unknown \\['speed'\\]"):
        run(fake(tmp_path, [{"propagate": {"tag": "a", "speed": 2}}]))
    with pytest.raises(ValueError, match="unknown step 'dance'"):
        run(fake(tmp_path, [{"dance": {}}]))
    with pytest.raises(ValueError, match="fill_hole_area"):
        Options.of({"fill_hole_area": 8})


def test_a_difference_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    true = dict(np.load(FIXTURES / "efficienttam-ti-512--box.npz"))
    wrong = {key: value for key, value in true.items() if key.startswith(("box/0/", "act"))}
    wrong["box/0/1/mask_logits"] = wrong["box/0/1/mask_logits"] * 1.01
    steps = [
        {"prompt": {"frame": 0, "object": 1, "box": [28, 68, 112, 152]}},
        {"propagate": {"tag": "box", "max": 0}},
    ]
    fake(tmp_path, steps, expected=wrong)
    monkeypatch.setattr(sys, "argv", ["check.py", str(tmp_path)])
    assert main() == 1
    assert "FAIL  efficienttam-ti-512--own" in capsys.readouterr().out


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, HERE / "check.py", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no <model>--<scenario>.npz" in done.stderr
