"""`samvideo train nano` in miniature, and its training clips."""

import inspect
import json
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.cli.train import SHIPPED_WITHOUT
from samvideo.cli.train import nano as nano_command
from samvideo.errors import ConfigError, DatasetError, SamVideoError, VideoError
from samvideo.nano.network import EVIDENCE, EXACT, HAND, KEY, LOGITS, Fusion, Prompted
from samvideo.nano.runtime import BUNDLED, Networks
from samvideo.training import clips, collecting, first_masks, fitting, recording
from samvideo.training.folds import SIBLINGS, fold
from samvideo.training.nano import Recipe
from samvideo.training.nano import train as run_training
from samvideo.types import BoolArray, Box, Mask
from tests.scenes import BLUE, RED, Shape, scene


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sequences of 20 frames, laid out as DAVIS."""
    root = tmp_path_factory.mktemp("davis")
    shapes = {
        "across": Shape(lambda index: (40 + 3.0 * index, 55), 20, RED),
        "down": Shape(lambda index: (90, 30 + 2.0 * index), 16, BLUE),
        "away": Shape(lambda index: (120 - 2.0 * index, 70), 24, ((20, 200, 60), (200, 220, 40))),
    }
    for name, shape in shapes.items():
        frames, truth = scene(20, shape)
        images, masks = root / "JPEGImages" / name, root / "Annotations" / name
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for frame in frames:
            cv2.imwrite(str(images / f"{frame.index:05}.jpg"), frame.rgb[..., ::-1])
            cv2.imwrite(str(masks / f"{frame.index:05}.png"), truth[frame.index, 0].astype(np.uint8) * 255)
    return root


@pytest.fixture(scope="module")
def sequences(davis: Path) -> list[clips.TrainingClip]:
    return clips.load_sequences(davis)


@pytest.fixture(scope="module")
def stills(davis: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("stills")
    recording.record_stills(davis, folder, 12, 1, logging.info)
    return clips.list_recorded(folder, 12)


@pytest.fixture
def recorded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record in a thread: to start processes, as `stills` does, takes most of the time of a small training."""
    monkeypatch.setattr(recording, "ProcessPoolExecutor", lambda *_, **options: ThreadPoolExecutor(1))


SMALL = ["--clips", "2", "--length", "8", "--batch", "4", "--steps", "6", "--prompt-steps", "8", "--threads", "1"]
SMALL += ["--stills", "6", "--fine-steps", "4"]


def train(davis: Path, output: Path, *more: str) -> str:
    done = CliRunner().invoke(app, ["train", "nano", "--data", str(davis), "-o", str(output), *SMALL, *more])
    assert done.exit_code == 0, done.output
    return done.stderr


@pytest.mark.parametrize("name", ["nano.safetensors", "nano.log", "nano.work"])
def test_training_replaces_only_its_own_files(davis: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / name).write_text("mine")
    output = tmp_path / "new" / "nano.safetensors"
    for data, place, message in (
        (davis, output, "is not of an earlier training"),
        (davis, tmp_path / "nano.log", "ending in .safetensors"),
        (tmp_path, tmp_path / "other" / "nano.safetensors", "no sequences"),
    ):
        with pytest.raises(SamVideoError, match=message):
            run_training(data, place, Recipe(), print)
    assert [path.name for path in tmp_path.rglob("*") if davis not in (path, *path.parents)] == ["new", name]
    assert (tmp_path / "new" / name).read_text() == "mine"


@pytest.mark.usefixtures("recorded_here")
def test_training_learns_resumes_after_an_interruption_and_is_reproducible(
    davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = train(davis, tmp_path / "one" / "nano.safetensors", "--rounds", "2")
    for expected in (
        "3 sequences, 0 left out",
        "stills: 6/6",
        "prompts: step 8/8",
        "clips1: 2/2",
        "round 1: step 6/6",
    ):
        assert expected in lines
    assert (tmp_path / "one" / "nano.log").read_text() == lines
    monkeypatch.setattr(fitting, "SAVED_EVERY", 4)
    ends = iter([5])
    whole = first_masks.mask_loss

    def cut_off(*args: object) -> object:
        if next(ends, 0) == 5:
            monkeypatch.setattr(first_masks, "mask_loss", later)
        return whole(*args)  # type: ignore[arg-type]

    calls = []

    def later(*args: object) -> object:
        calls.append(1)
        if len(calls) == 5:
            monkeypatch.setattr(first_masks, "mask_loss", whole)
            raise KeyboardInterrupt
        return whole(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(first_masks, "mask_loss", cut_off)
    output = tmp_path / "two" / "nano.safetensors"
    arguments = ["train", "nano", "--data", str(davis), "-o", str(output), *SMALL, "--rounds", "2"]
    assert CliRunner().invoke(app, arguments).exit_code == 130
    assert "prompts: resumes at step 4" in train(davis, output, "--rounds", "2")
    one, two = load_file(tmp_path / "one" / "nano.safetensors"), load_file(output)
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], two[key], err_msg=key)
    frames, truth = scene(3, Shape(lambda index: (50 + 2.0 * index, 55), 20, RED))
    from samvideo.trackers.nano import NanoTracker

    tracker = NanoTracker(output)
    tracker.step(frames[0], [Mask(truth[0, 0])])
    assert tracker.step(frames[1]).masks.shape == truth[1].shape


def test_the_prompt_network_learns_a_few_stills(
    stills: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "LOG_EVERY", 20)
    torch.manual_seed(0)
    lines: list[str] = []
    stage = fitting.TrainingStage("prompts", 80, 4, 3e-3, 1, tmp_path / "state.pt")
    first_masks.fit(Prompted(), stills, stage, lines.append, 64)
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines]
    assert losses[-1] < 0.8 * losses[0]


def test_samples_drawn_ahead_equal_those_drawn_when_needed(stills: list[Path], tmp_path: Path) -> None:
    weights = []
    for workers in (0, 1):
        torch.manual_seed(0)
        network = Prompted()
        stage = fitting.TrainingStage("prompts", 3, 2, 3e-3, 1, tmp_path / "state.pt")
        first_masks.fit(network, stills, stage, logging.info, 64, workers)
        weights.append(network.state_dict())
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key]), key


def test_a_folder_of_another_recipe_is_refused(davis: Path, tmp_path: Path) -> None:
    from samvideo.training.nano import Recipe
    from samvideo.training.nano import train as run

    (tmp_path / "nano.work").mkdir()
    (tmp_path / "nano.work" / "recipe.json").write_text("{}")
    with pytest.raises(ConfigError, match="another recipe"):
        run(davis, tmp_path / "nano.safetensors", Recipe(), logging.info)


@pytest.mark.parametrize("given", ["0/3", "4/3", "one", "1/"])
def test_a_bad_fold_is_a_usage_error(given: str, davis: Path, tmp_path: Path) -> None:
    arguments = ["train", "nano", "--data", str(davis), "-o", str(tmp_path / "x.safetensors"), "--fold", given]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "for example 1/3" in done.stderr


def test_missing_data_is_an_error(davis: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no sequences"):
        clips.load_sequences(tmp_path)
    images = tmp_path / "JPEGImages" / "one"
    images.mkdir(parents=True)
    with pytest.raises(DatasetError, match="Annotations/one is missing"):
        clips.load_sequences(tmp_path)
    shutil.copytree(next((davis / "Annotations").iterdir()), tmp_path / "Annotations" / "one")
    with pytest.raises(DatasetError, match=r"JPEGImages/one is empty"):
        clips.load_sequences(tmp_path)
    for mask in (tmp_path / "Annotations" / "one").iterdir():
        (images / f"{mask.stem}.jpg").write_bytes(b"not a JPEG")
    with pytest.raises(VideoError, match="cannot be read"):
        clips.load_sequences(tmp_path)


def test_folds_partition_the_scenes_and_keep_siblings_together() -> None:
    names = sorted({name for group in SIBLINGS for name in group} | {"bus", "boat", "train"})
    parts = [set(fold(names, k, 3)) for k in (1, 2, 3)]
    assert set().union(*parts) == set(names)
    assert sum(map(len, parts)) == len(names)
    assert all(any(part.issuperset(group) for part in parts) for group in SIBLINGS)


def test_clips_are_reproducible_and_start_with_the_object(sequences: list[clips.TrainingClip]) -> None:
    for seed in range(12):
        one, two = (clips.make_clip(sequences, np.random.default_rng(seed), 12) for _ in range(2))
        assert np.array_equal(one.rgb, two.rgb)
        assert np.array_equal(one.masks, two.masks)
        assert one.rgb.dtype == np.uint8
        assert one.masks.dtype == bool
        assert one.rgb.shape[:3] == one.masks.shape
        assert one.masks[0].sum() >= clips.SMALLEST


def test_each_change_of_a_clip_keeps_frames_and_truth_together(sequences: list[clips.TrainingClip]) -> None:
    rng = np.random.default_rng(1)
    clip, other = sequences[0], sequences[1]
    hidden = clips.insert_other_scene(clip, other, rng)
    gone = ~hidden.masks.any((1, 2))
    assert 3 <= gone.sum() < 10
    covered = clips.occlude(clip, other, rng)
    assert not (covered.masks & ~clip.masks).any()
    changed = (covered.rgb != clip.rgb).any(-1)
    assert not ((covered.masks != clip.masks) & ~changed).any()
    pasted = clips.paste(clip, other, rng)
    assert pasted.rgb.shape == other.rgb.shape[:1] + pasted.rgb.shape[1:]
    worse = clips.perturb_mask(clip.masks[0], rng)
    assert worse.any()


@pytest.mark.usefixtures("recorded_here")
def test_recordings_are_shared_and_exclude_what_is_left_out(davis: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    options = ["--recordings", str(shared), "--stills", "12", "--clips", "6", "--batch", "2"]
    options += ["--steps", "1", "--prompt-steps", "1", "--fine-steps", "1"]
    train(davis, tmp_path / "one.safetensors", *options)
    lines = train(davis, tmp_path / "two.safetensors", *options, "--leave-out", "down", "--seed", "2")
    assert "/12 stills" not in lines  # all of them exist
    every = clips.list_recorded(shared / "clips", 6)
    some = clips.list_recorded(shared / "clips", 6, ("down",))
    assert 0 < len(some) < len(every) == 6
    assert all("down" not in clips.load_recorded(collecting.RecordedClip, file).made_of for file in some)
    kept = clips.list_recorded(shared / "stills", 12, ("down",))
    assert 0 < len(kept) < len(clips.list_recorded(shared / "stills", 12)) == 12
    assert all("down" not in clips.load_recorded(first_masks.Still, file).made_of for file in kept)


def test_the_network_knows_whether_the_first_mask_is_estimated() -> None:
    frames, _ = scene(3, Shape(lambda index: (50 + 2.0 * index, 55), 20, RED))
    for prompt, exact in ((Box((30, 35, 70, 75)), 0.0), (Mask(scene_mask()), 1.0)):
        tracker = collecting.RecordingTracker(Networks(Fusion(), Prompted()), False)
        for frame in frames:
            tracker.step(frame, [] if frame.index else [prompt])
        (_, planes), *_ = tracker.target.seen
        assert planes[EXACT].max() == exact


def scene_mask() -> BoolArray:
    _, truth = scene(1, Shape(lambda index: (50 + 2.0 * index, 55), 20, RED))
    return truth[0, 0]


def test_the_grabcut_mask_of_a_still_is_inside_its_box(stills: list[Path]) -> None:
    for still in (clips.load_recorded(first_masks.Still, file) for file in stills):
        x1, y1, x2, y2 = still.box
        rows, columns = np.nonzero(still.cut)
        assert still.mask.sum() >= 60
        assert x1 - 1 <= columns.min() <= columns.max() <= x2 + 1
        assert y1 - 1 <= rows.min() <= rows.max() <= y2 + 1


def test_samples_are_finite_and_of_equal_size(stills: list[Path]) -> None:
    for seed in range(20):
        planes, truth, answer = first_masks.sample(stills, np.random.default_rng(seed))
        assert planes.shape[1:] == truth.shape == answer.shape
        assert np.isfinite(planes).all()
        assert set(np.unique(truth)) <= {0.0, 1.0}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_on_a_gpu(davis: Path, tmp_path: Path) -> None:
    output = tmp_path / "nano.safetensors"
    lines = train(davis, output, "--device", "cuda", "--workers", "2", "--rounds", "2")
    assert "prompts: step 8/8" in lines
    assert "round 1: step 6/6" in lines
    assert all(np.isfinite(value).all() for value in load_file(output).values())


def test_the_fusion_starts_from_the_hand_weighted_cues() -> None:
    planes, memory = torch.rand(1, EVIDENCE, 48, 48), torch.rand(1, 2, KEY + 1, 16)
    logits, _ = Fusion().eval()(planes, [memory, memory])
    by_hand = (planes[:, LOGITS] * torch.tensor(HAND)[:, None, None]).sum(1)
    torch.testing.assert_close(logits[:, 0], by_hand)


def test_the_command_has_the_defaults_of_the_recipe() -> None:
    given = {
        name: parameter.default.default for name, parameter in inspect.signature(nano_command).parameters.items()
    }
    recipe = asdict(Recipe(leave_out=SHIPPED_WITHOUT)) | {"leave_out": ",".join(SHIPPED_WITHOUT)}
    assert {name: given[name] for name in recipe} == recipe
    with safe_open(BUNDLED, "np") as file:
        assert json.loads(file.metadata()["recipe"]) == json.loads(
            json.dumps(asdict(Recipe(leave_out=SHIPPED_WITHOUT)))
        )
