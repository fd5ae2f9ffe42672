"""Data for training: the split, reading, and what generated clips guarantee."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from training_data import GREEN, RED, SIZE, save, save_all

from samvideo.errors import ConfigError, DatasetError
from samvideo.io.masks import write_index_png
from samvideo.training import effects, splits
from samvideo.training.clips import ClipSampler
from samvideo.training.compose import ClipConfig
from samvideo.training.library import Library, library_digest

PLAIN = ClipConfig(
    side=96, length=4, batch=6, apart=0, rival=0, occluder=0, leaves=0, elsewhere=0,
    grey=0, gamma=0, blur=0, motion_blur=0, noise=0, compression=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_all(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def library(data: Path) -> Library:
    return Library.read([data / "objects"], [data / "davis"])


def sampler(library: Library, config: ClipConfig, seed: int = 0) -> ClipSampler:
    return ClipSampler(library, config, torch.Generator().manual_seed(seed))


def coloured(frames: Tensor, masks: Tensor, colour: Sequence[int]) -> float:
    """The share of a mask's pixels, without its edge, that are of a colour (or nearly)."""
    inner = 1 - torch.nn.functional.max_pool2d(1 - masks[:, None], 5, 1, 2)[:, 0]
    strongest = frames.argmax(1)
    return float(((strongest == int(np.argmax(colour))) * inner).sum() / inner.sum())


def test_the_split_is_by_scene_and_leaves_out_what_is_for_measuring() -> None:
    assert not (splits.TRAIN & splits.VALIDATION)
    assert not (splits.TRAIN & splits.NEVER)
    assert not (splits.VALIDATION & splits.NEVER)
    never = (
        "camel",
        "dogs-jump",
        "salsa",
        "dog-agility",
        "sbi-board",
        "ucsd-birds-2",
        "ucsd-flock",
        "video01_00080",
    )
    assert {splits.side(name) for name in never} == {"never"}
    for group in splits.SIBLINGS:
        assert len({splits.side(name) for name in group}) == 1
    assert splits.side("Seq05VD_f00180") == "train"
    assert splits.side("0006R0_f02130") == "validation"
    names = [f"{number:012}" for number in range(3000)]
    shares = [splits.side(name) for name in names]
    assert 0.08 < shares.count("validation") / len(names) < 0.12
    assert all(splits.side(name) == splits.side(f"{name}_parts") for name in names[:200])


def test_folds_part_the_scenes() -> None:
    names = [*splits.TRAIN, *map(str, range(300))]
    folds = [{name for name in names if splits.fold(name, number, 3)} for number in (1, 2, 3)]
    assert sum(map(len, folds)) == len(names)
    assert min(map(len, folds)) > 80
    assert sum({"kite-walk", "surf"} <= fold for fold in folds) == 1
    with pytest.raises(ConfigError, match="1 to 3"):
        splits.fold("surf", 4, 3)


def test_a_library_has_the_terms_and_side_asked_for(data: Path, library: Library) -> None:
    assert {group: len(shots) for group, shots in library.groups.items()} == {"open/shapes": 8, "davis": 1}
    (bear,) = library.clips["davis"]
    assert bear.name == "bear"
    assert bear.pixels.shape == (10, 4, *SIZE)
    assert bear.boxes[2, 0].tolist() == [30, 22, 67, 59]
    both = Library.read([data / "objects"], terms=("open", "unstated"))
    assert set(both.groups) == {"open/shapes", "unstated/shapes"}
    small = Library.read([data / "objects"], longest=64).stills["open/shapes"][0]
    assert small.size_wh == (64, 48)
    assert small.areas.shape == (1, 2)
    folds = [Library.read([data / "objects"], fold=(number, 2)).stills["open/shapes"] for number in (1, 2)]
    assert {shot.name for shot in folds[0]}.isdisjoint(shot.name for shot in folds[1])
    assert len(folds[0]) + len(folds[1]) == 8


def test_a_digest_is_of_what_is_read_to_train_on(data: Path, tmp_path: Path) -> None:
    def digest() -> str:
        return library_digest([tmp_path / "objects"], [tmp_path / "davis"], terms=("open",))

    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    before = library_digest([data / "objects"], [data / "davis"], terms=("open",))
    save(tmp_path / "davis", "JPEGImages/480p/camel", "Annotations/480p/camel", "00000", 9)
    save(tmp_path / "objects/unstated/shapes", "images", "masks", "0", 9)
    assert digest() == before, "of the same content elsewhere, and of other changes"
    save(tmp_path / "davis", "JPEGImages/480p/bear", "Annotations/480p/bear", "00003", 9)
    other = digest()
    assert other != before
    name = next(iter((tmp_path / "objects/open/shapes/masks").iterdir())).stem
    write_index_png(tmp_path / f"objects/open/shapes/masks/{name}.png", np.eye(*SIZE, dtype=np.uint8))
    assert digest() not in (before, other)


def test_broken_data_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="images, open"):
        Library.read([tmp_path])
    with pytest.raises(DatasetError, match=r"no folder .*absent"):
        Library.read([data / "absent"])
    with pytest.raises(DatasetError, match="on the side 'validation'"):
        Library.read([data / "objects"], side="validation")
    save(tmp_path / "set", "images", "masks", "a")
    (tmp_path / "set/masks/a.png").unlink()
    with pytest.raises(DatasetError, match=r"a\.png is missing"):
        Library.read([tmp_path / "set"])
    write_index_png(tmp_path / "set/masks/a.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(DatasetError, match=r"a\.png, has an object: masks with numbers from 1"):
        Library.read([tmp_path / "set"])


def test_masks_lie_on_their_objects(library: Library) -> None:
    generator = sampler(library, PLAIN)
    for _ in range(3):
        batch = generator.next()
        assert batch.frames.shape == (6, 4, 3, 96, 96)
        assert batch.masks.shape == (6, 2, 4, 96, 96)
        assert batch.known[:, 0].all()
        assert (batch.masks[:, 0, 0].sum((1, 2)) >= 2).all()
        flat = batch.frames.flatten(0, 1)
        assert set(batch.masks.unique().tolist()) == {0, 1}
        either = [coloured(flat, batch.masks.sum(1).flatten(0, 1), colour) for colour in (GREEN, RED)]
        assert sum(either) > 0.97
        both = batch.known.all(1)
        around = torch.nn.functional.max_pool2d(batch.masks.sum(1), 5, 1, 2)
        missed = (batch.frames.argmax(2) != 2) & (around == 0)  # neither is the background's blue
        assert not missed[both].any()
        assert 0 <= batch.frames.min() <= batch.frames.max() <= 1
    frames, masks = generator.windows(8)
    assert frames.shape == (8, 3, 96, 96)
    assert coloured(frames, masks, GREEN) + coloured(frames, masks, RED) > 0.97
    assert 0.1 < float(masks.mean()) < 0.6
    frames, masks = generator.pictures(8, 64)
    assert masks.shape == (8, 64, 64)
    assert coloured(frames, masks, GREEN) + coloured(frames, masks, RED) > 0.97


def test_pasted_objects_keep_their_masks(library: Library) -> None:
    generator = sampler(library, replace(PLAIN, apart=1, rival=1, labelled=1, second=0))
    batch = generator.next(batch=12)
    assert batch.known[:, 1].any()
    assert float((batch.masks[:, 0] * batch.masks[:, 1]).sum()) == 0
    flat = batch.frames.flatten(0, 1)
    assert sum(coloured(flat, batch.masks.sum(1).flatten(0, 1), colour) for colour in (GREEN, RED)) > 0.95


def test_the_same_seed_gives_the_same_batches(library: Library) -> None:
    config = replace(ClipConfig(), side=64, length=3, batch=4, blur=1, motion_blur=1, noise=1, compression=1)
    first, second, other = (sampler(library, config, seed).next() for seed in (1, 1, 2))
    assert torch.equal(first.frames, second.frames)
    assert torch.equal(first.masks, second.masks)
    assert not torch.equal(first.frames, other.frames)
    again = sampler(library, config, 1)
    again.next()
    after = sampler(library, config, 1)
    after.next()
    after.generator.set_state(again.generator.get_state())
    assert torch.equal(again.windows(2, 32)[0], after.windows(2, 32)[0])


def test_objects_leave_and_scenes_change(library: Library) -> None:
    gone = sampler(library, replace(PLAIN, apart=1, leaves=1, still=1)).next(batch=12)
    assert (gone.masks[:, 0, 0].sum((1, 2)) > 0).all()
    assert (gone.masks[:, 0].sum((2, 3)) == 0).any(1).sum() >= 8
    elsewhere = sampler(library, replace(PLAIN, elsewhere=1)).next(batch=8)
    assert (elsewhere.masks[:, 0].sum((2, 3)) == 0).any(1).all()
    covered = sampler(library, replace(PLAIN, occluder=1, still=1)).next(batch=8)
    shown = covered.masks[:, 0].sum((2, 3))
    assert (shown.amin(1) < 0.9 * shown[:, 0]).any()


@pytest.mark.parametrize("sigma", [1.0, 1.6, 5.12])
def test_a_blur_is_as_wide_as_asked_for_at_any_size_of_input(sigma: float) -> None:
    point, at = torch.zeros(1, 1, 3, 65, 65), torch.arange(65) - 32.0
    point[..., 32, 32] = 1
    blurred = effects.blur(point, np.array([sigma]))[0, 0, 0]
    assert blurred.sum().item() == pytest.approx(1)
    for axis in (0, 1):
        assert (blurred.sum(axis) * at**2).sum().item() ** 0.5 == pytest.approx(sigma, rel=0.05)


def test_a_side_that_blocks_do_not_fill_is_refused(library: Library) -> None:
    with pytest.raises(ConfigError, match="side 100: a multiple of 8"):
        sampler(library, PLAIN).next(side=100)
