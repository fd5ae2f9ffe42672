"""`samvideo distill`: losses, pictures and their order, cached features, resuming, and what is learned."""

import math
import signal
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_distil
import tiny_sam
import torch
from tiny_distil import SIDE, STUDENT, TEACHER
from torch import nn
from typer.testing import CliRunner

from samvideo.checkpoints import load_any
from samvideo.cli.main import app
from samvideo.errors import ConfigError, DatasetError, SamVideoError, VideoError
from samvideo.image_model import ImageModel
from samvideo.registry import ENCODERS
from samvideo.specs import IMAGE_SPECS
from samvideo.training import distil
from samvideo.training.distil import Inputs, Pair, Plan
from samvideo.training.distil_agreement import agreement
from samvideo.training.distil_clips import Clips, find_clips
from samvideo.training.distil_prompts import Objects, mask_distance
from samvideo.training.distil_recipe import Lesson, feature_errors, feature_loss, parse_recipe, resized
from samvideo.training.distil_student import share_layers
from samvideo.training.images import Augmentation, Picture, Squares, augmented, find_pictures, order, square
from samvideo.training.processes import joined
from samvideo.training.recipes.full import hard_weights, token_loss
from samvideo.training.recipes.layers import _as_map, blocks_of, layer_weights, pairs
from samvideo.training.recipes.sami import filled
from samvideo.training.teacher_cache import TeacherCache

PLAIN = Augmentation(plain=1.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of a disc and a square on noise, of both sides of the split, and masks that are not pictures."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "masks").mkdir()
    rng = np.random.default_rng(0)
    for number in range(60):
        picture = rng.integers(0, 60, (72, 80, 3)).astype(np.uint8)
        x, y, radius = (int(value) for value in rng.integers(16, 50, 3))
        cv2.circle(picture, (x, y), radius // 3, (40, 200, 40), -1)
        cv2.rectangle(picture, (y, x), (y + radius // 2, x + radius // 3), (220, 40, 40), -1)
        for folder in (root, root / "masks"):
            cv2.imwrite(str(folder / f"{number}-of-60-pictures.png"), picture)
    return root


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_distil.shrink(monkeypatch)


def inputs(data: Path, cache: Path | None = None) -> Inputs:
    return Inputs(STUDENT, f"{TEACHER}=random", data, cache=cache, workers=0)


def distill(data: Path, out: Path, *options: str | Path, code: int = 0) -> str:
    models = ["distill", STUDENT, "--teacher", f"{TEACHER}=random"]
    where = ["--images", data, "-o", out, "--device", "cpu", "--threads", 1, "--workers", 0]
    done = CliRunner().invoke(app, [*map(str, [*models, *where, *options])])
    assert done.exit_code == code, done.output
    return done.output


def measured(pair: Pair, data: Path) -> dict[str, float]:
    kept = pair.squares(find_pictures(data).validation)
    pictures, covered = (torch.stack(part) for part in zip(*(kept[row] for row in range(len(kept))), strict=True))
    return agreement(pair.student, pair.teacher, pictures, covered)


# Learned in 30 steps: feature error to a fifth of that before, mask error (1 - IoU) to 60 % of that.
LEARNED = (
    "features",
    "prompts:objects=2",
    "sami",
    "layers",
    pytest.param("full:objects=2", marks=pytest.mark.long),
)


@pytest.mark.parametrize("recipe", LEARNED)
def test_a_student_comes_near_its_teacher_on_other_pictures(data: Path, tmp_path: Path, recipe: str) -> None:
    pair = Pair(inputs(data, tmp_path / "cache"), Plan(recipe, 30, batch=4))
    before = measured(pair, data)
    examples = pair.examples(find_pictures(data).train)
    assert isinstance(examples, TeacherCache)
    examples.fill(pair.teach, print)
    pair.learn(examples, tmp_path / "state", print)
    after = measured(pair, data)
    assert after["feature error"] < 0.2 * before["feature error"]
    assert 1 - after["mask IoU"] < 0.6 * (1 - before["mask IoU"])


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two videos of six and seven frames, as folders, beside their labels."""
    for number, name in enumerate(("a", "b")):
        for k, frame in enumerate(tiny_sam.clip(6 + number)):
            for part in ("JPEGImages", "Annotations"):
                (tmp_path / part / name).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(tmp_path / part / name / f"{k:05}.png"), frame.rgb[..., ::-1])
    return tmp_path


def test_clips_of_videos(clips: Path) -> None:
    divided = find_clips(clips, 2, 2)
    found = divided.train + divided.validation
    assert [(clip.source.name, clip.first) for clip in found] == [("a", 0), ("b", 0), ("b", 4)]
    pixels, _ = Clips(found, IMAGE_SPECS[TEACHER], 64, 2, 2)[2]
    want = [frame.rgb for frame in tiny_sam.clip(7)]
    assert pixels.permute(0, 2, 3, 1).tolist() == np.stack([want[4], want[6]]).tolist()
    (clips / "JPEGImages" / "a" / "00003.png").write_bytes(b"another frame")
    digests = [clip.digest for clip in find_clips(clips, 2, 2).train]
    assert digests[0] != found[0].digest, "an exchange before a resumption is noticed"
    assert digests[1] == found[1].digest
    with pytest.raises(DatasetError, match="15 frames"):
        find_clips(clips, 8, 2)


def test_a_memory_is_distilled_along_clips(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(distil, "load_teacher", lambda text, device: tiny_sam.tiny_model())
    other = tiny_sam.tiny_model()
    other.encoder.load_state_dict(tiny_sam.randomise(tiny_sam.tiny_model(), 1).encoder.state_dict())
    monkeypatch.setattr(distil, "load_student", lambda text: (other, False))
    given = replace(inputs(clips), images=None, videos=clips)
    pair = Pair(given, Plan("video:length=3,stride=1,objects=2", 20, batch=1))
    frames = torch.stack([torch.from_numpy(frame.rgb.transpose(2, 0, 1)) for frame in tiny_sam.clip(3)])

    def errors() -> dict[str, float]:
        torch.manual_seed(3)
        features, _ = pair.recipe.taught(frames)
        with torch.no_grad():
            losses = pair.recipe.losses(Lesson(frames / 255, features, (), 0.9))
        return {name: value.item() for name, value in losses.items()}

    before = errors()
    found = [*pair.found.train, *pair.found.validation]
    pair.learn(pair.examples(found), tmp_path / "state", said.append)
    tracked = [float(line.partition("tracked IoU ")[2].partition(",")[0]) for line in said if "tracked" in line]
    assert tracked[0] < tracked[1], "masks of frames after the first, before and after training"
    after = errors()
    assert after["features"] < 0.5 * before["features"]
    assert after["memory"] < 0.5 * before["memory"]
    assert after["masks"] < before["masks"]


def test_an_untrained_student_begins_with_the_layers_that_it_has_in_common_with_its_teacher() -> None:
    student, teacher = tiny_sam.tiny_model(), tiny_sam.randomise(tiny_sam.tiny_model(), 1)
    attention = student.encoder.trunk.blocks[0].attn
    attention.qkv = nn.Linear(attention.qkv.in_features, 3)  # of another shape, but its bias could be another's
    kept = attention.qkv.weight.clone()
    mine, theirs = student.state_dict(), teacher.state_dict()
    assert share_layers(student, teacher) == len(mine) - 2
    assert torch.equal(attention.qkv.weight, kept)
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items() if "blocks.0.attn.qkv" not in name)


def test_a_student_without_an_embedding_of_absent_objects_has_the_rest_of_the_memory_of_its_teacher() -> None:
    student = tiny_sam.tiny_model("perceiver")
    teacher = tiny_sam.randomise(tiny_sam.tiny_model(occlusion_embedding=True), 1)
    share_layers(student, teacher)
    for name in ("no_memory", "frame_codes"):
        assert torch.equal(getattr(student.memory, name), getattr(teacher.memory, name))


def test_two_processes_equal_one(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses within 1e-4, weights within 1e-3: sums are in another order, and Adam divides by small numbers."""
    plan, pictures = Plan("features", 5, batch=4), find_pictures(data).train
    monkeypatch.setattr(Pair, "_measure", lambda self, log: dict)
    curves, weights = [], []
    gradients = distil.Steps.gradients
    for count in (1, 2):
        curve: list[float] = []

        def noted(self: distil.Steps, step: int, curve: list[float] = curve) -> Mapping[str, torch.Tensor]:
            parts = gradients(self, step)
            curve.append(parts["features"].item())
            return parts

        monkeypatch.setattr(distil.Steps, "gradients", noted)
        pair, state = Pair(inputs(data), plan), tmp_path / f"state-{count}"
        with joined(count, tiny_distil.beside, inputs(data), plan, pictures, state) if count > 1 else nullcontext():
            pair.learn(pair.examples(pictures), state, print, count=count)
        curves.append(curve)
        weights.append(nn.utils.parameters_to_vector(pair.student.parameters()))
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    assert curves[0][-1] < curves[0][0]
    assert (weights[1] - weights[0]).abs().max() < 1e-3


def test_a_process_that_cannot_start_is_told() -> None:
    with pytest.raises(SamVideoError, match="ended while it started"), joined(2, tiny_distil.Unreadable()):
        pytest.fail("the group has formed")


def test_losses_by_hand() -> None:
    own, target = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[0.0, 4.0]]]])
    assert feature_loss(own, target).item() == pytest.approx((1 + 4) / 2 / 4), "0 and 4 have a variance of 4"
    assert feature_loss(10 * own, 10 * target).item() == pytest.approx((1 + 4) / 2 / 4)
    both = torch.cat([own, target])
    assert feature_errors(both, torch.cat([target, target])).tolist() == pytest.approx([(1 + 4) / 2 / 4, 0])
    larger = torch.tensor([[[[0.0, 0.0, 4.0, 4.0]] * 2]]).view(1, 1, 2, 4)
    assert feature_loss(own, larger).item() == pytest.approx(feature_loss(own, resized(larger, own)).item())
    logits, mask = torch.zeros(1, 1, 2), torch.tensor([[[1.0, 0.0]]])
    dice = 1 - (2 * 0.5 + 1) / (1 + 1 + 1)
    assert mask_distance(logits, mask, 5, 2).item() == pytest.approx(5 * math.log(2) + 2 * dice)
    objects = Objects(torch.zeros(3, 1, 1), torch.tensor([1.0, 0, 1]))
    assert objects.mean(torch.tensor([1.0, 9, 3])).item() == 2


def test_losses_of_further_recipes_by_hand() -> None:
    assert hard_weights(torch.tensor([0.2, 0.8]), 0.75, 2.0).tolist() == [2, 1]
    tokens = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]]])
    assert token_loss(tokens, torch.tensor([[[0.0, 4.0]], [[0.0, 2.0]]])).tolist() == [2.5, 2]
    places = torch.arange(4.0)[None, :, None]
    assert filled(places, torch.tensor([[[8.0], [9.0]]]), torch.tensor([[3, 1]])).flatten().tolist() == [0, 9, 2, 8]
    assert pairs(2, 4) == [(0, 1), (1, 3)]
    assert pairs(6, 4) == [(0, 0), (2, 1), (3, 2), (5, 3)]
    assert layer_weights(0, 2) == [1, 0, 0]
    assert layer_weights(0.25, 2) == [0.5, 0.5, 0]
    assert layer_weights(1, 2) == [0, 0, 1]


def test_blocks_of_encoders_as_maps() -> None:
    channels_last, channels_first = torch.rand(1, 4, 4, 6), torch.rand(1, 6, 4, 4)
    assert _as_map(channels_last).shape == _as_map(channels_first).shape == (1, 6, 4, 4)
    assert torch.equal(_as_map(channels_last.flatten(1, 2)), channels_last.permute(0, 3, 1, 2))
    assert torch.equal(_as_map(channels_first[:, :4]), channels_first[:, :4]), "as many channels as rows"
    with torch.device("meta"):
        for name, count in (("tinyvit-5m", 4), ("vit-ti", 12), ("efficientformer-s2", 4)):
            assert len(blocks_of(ENCODERS.build(name))) == count
        with pytest.raises(ConfigError, match="not a list of blocks"):
            blocks_of(ENCODERS.build("resnet-18"))


def test_all_pictures_come_before_any_comes_again_in_an_order_of_the_seed() -> None:
    whole = list(order(5, 2, 1, 0, 10))
    assert sorted(row for rows in whole[:5] for row in rows) == sorted([*range(5)] * 2)
    assert list(order(5, 2, 1, 4, 10)) == whole[4:], "as resumed"
    assert list(order(5, 2, 2, 0, 10)) != whole


def test_pictures_of_both_sides_without_masks(data: Path) -> None:
    found = find_pictures(data)
    numbers = [int(p.path.stem.partition("-")[0]) for side in (found.train, found.validation) for p in side]
    assert sorted(numbers) == [*range(60)]
    assert len(found.validation) == 8, "about a tenth, chosen by a digest of names"
    wide = np.zeros((10, 20, 3), np.uint8)
    padded = square(wide, IMAGE_SPECS["mobilesam"], 8)
    assert padded[:, :4].max() == 0
    assert padded[:, 4:].reshape(3, -1).T.tolist() == [[124, 116, 104]] * 32
    assert square(wide, IMAGE_SPECS[TEACHER], 8).max() == 0


def test_what_happens_to_a_picture_depends_on_its_seed_alone() -> None:
    clips = torch.rand(2, 1, 3, 16, 16)
    augmentation = Augmentation(plain=0)
    both = augmented(clips, augmentation, [(1, 0), (1, 1)])
    assert torch.equal(both[1:], augmented(clips[1:], augmentation, [(1, 1)]))
    assert not torch.equal(both, clips)
    assert torch.equal(augmented(clips, PLAIN, [(1, 0), (1, 1)]), clips)


def test_features_are_computed_once(data: Path, tmp_path: Path) -> None:
    pair = Pair(inputs(data, tmp_path), Plan())
    pictures = find_pictures(data).train
    cache = pair.examples(pictures)
    assert isinstance(cache, TeacherCache)
    cache.fill(pair.teach, print)
    assert (
        len(cache.files) == len(set(cache.files)) == math.ceil(len(pictures) / 32) == len(list(tmp_path.iterdir()))
    )
    picture, _, maps = cache[33]
    assert torch.equal(picture, Squares(pictures, pair.student.spec, SIDE)[33][0])
    assert (maps - pair.teach(picture[None])[0][0]).abs().max() < 0.01

    def never(pictures: torch.Tensor) -> list[torch.Tensor]:
        raise AssertionError

    cache.fill(never, print)
    TeacherCache(tmp_path, cache.teacher, pair.squares(pictures)).fill(never, print)
    other = TeacherCache(tmp_path, cache.teacher, pair.squares([*pictures[:-1], Picture(pictures[0].path, "new")]))
    assert other.files[0] == cache.files[0], "an unchanged shard is read"
    assert other.files[-1] != cache.files[-1]
    assert not {*TeacherCache(tmp_path, "another", pair.squares(pictures)).files} & {*cache.files}
    cache.files[0].write_bytes(b"broken")
    with pytest.raises(DatasetError, match="remove it"):
        cache[0]


def test_features_of_one_file_at_another_input_size_are_others(data: Path, tmp_path: Path) -> None:
    pair, pictures = Pair(inputs(data, tmp_path), Plan()), find_pictures(data).train[:1]
    files = []
    for side in (SIDE, SIDE // 2):
        pair.teacher.spec = replace(pair.teacher.spec, input_wh=(side, side))
        cache = pair.examples(pictures)
        assert isinstance(cache, TeacherCache)
        files += cache.files
    assert files[0] != files[1]


def test_a_teacher_sees_a_few_pictures_at_a_time(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, sizes = Pair(inputs(data), Plan()), []
    taught, pictures = pair.recipe.taught, torch.randint(256, (20, 3, SIDE, SIDE)).byte()
    monkeypatch.setattr(pair.recipe, "taught", lambda some: (sizes.append(len(some)), taught(some))[1])
    maps = pair.teach(pictures)
    assert sizes == [8, 8, 4]
    assert torch.equal(maps[0][8:16], pair.teach(pictures[8:16])[0])


def test_a_step_has_as_many_frames_of_clips_as_pictures(data: Path) -> None:
    video = parse_recipe("video")[1]
    assert video.batch * video.length == parse_recipe("features")[1].batch == Pair(inputs(data), Plan()).batch
    assert Pair(inputs(data), Plan(batch=3)).batch == 3


def test_a_distillation_is_interrupted_resumed_and_used(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--steps", 4, "--batch", 2, "--recipe", "prompts", "--cache", tmp_path / "cache")
    said = distill(data, tmp_path / "whole/m.safetensors", *options)
    assert "validation after step 4: mask IoU 0." in said
    gradients = distil.Steps.gradients

    def interrupted(self: distil.Steps, step: int) -> Mapping[str, torch.Tensor]:
        if step == 1:
            signal.raise_signal(signal.SIGINT)
        return gradients(self, step)

    out = tmp_path / "parts/m.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(distil.Steps, "gradients", interrupted)
        assert "the same command resumes it" in distill(data, out, *options, code=130)
    assert "resumed after step 2" in distill(data, out, *options)
    assert out.read_bytes() == (tmp_path / "whole/m.safetensors").read_bytes()
    assert "is of another recipe" in distill(data, out, "--steps", 5, code=2)
    student, teacher = load_any(STUDENT, weights=out), load_any(TEACHER, weights="random")
    assert isinstance(student, ImageModel)
    assert student.state_dict().keys() != teacher.state_dict().keys()


def test_an_error_of_a_worker_is_told_without_its_traceback() -> None:
    def batches() -> Iterator[list[torch.Tensor]]:
        yield []
        raise VideoError("Caught in a worker.\nTraceback:\n  line\nsamvideo.errors.VideoError: 0.png is damaged\n")

    found = batches()
    assert distil.Steps._next(found) == []
    with pytest.raises(VideoError, match=r"^0\.png is damaged$"):
        distil.Steps._next(found)


def test_what_is_refused(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    assert "there is no recipe 'feature'; did you mean 'features'" in distill(
        data, out, "--recipe", "feature", code=2
    )
    assert "has no option 'depth'" in distill(data, out, "--recipe", "prompts:depth=1", code=2)
    assert "evenly by 3 processes" in distill(data, out, "--nproc", 3, code=2)
    assert "no picture to learn from" in distill(tmp_path, out, code=3)
    assert not list(tmp_path.iterdir())
    for name in ("squeezesam", "nano"):
        with pytest.raises(ConfigError, match=name):
            Pair(replace(inputs(data), student=name), Plan())
