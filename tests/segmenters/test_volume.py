"""FastSAM3D over volumes: where its cube lies, clicks one after the other, labels at the voxels of the file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samvideo.errors import ConfigError, OutputError, PromptError, SamVideoError, VideoError
from samvideo.io.volumes import VolumeFile
from samvideo.networks.fast_sam3d import FastSam3dConfig, build
from samvideo.segmenters.volume import Cube, VolumeMask, VolumeSegmenter
from samvideo.volume_run import segment_volume

nib = pytest.importorskip("nibabel")

SMALL = FastSam3dConfig(side=32, patch=4, dim=48, heads=2, depth=3, plain=1, width=48, frequencies=16)
SHAPE, SPACING, RADIUS = (60, 50, 30), (1.0, 1.5, 2.5), 13.0  # voxels and millimetres
CENTRE = (28, 24, 14)


def affine() -> np.ndarray:
    """i runs to the back, j up, k to the left."""
    made = np.eye(4)
    made[:3, :3] = np.array([[0, 0, -1], [-1, 0, 0], [0, 1, 0]]) @ np.diag(SPACING)
    made[:3, 3] = 40, 30, -20
    return made


def ball(centre: tuple[float, float, float] = CENTRE) -> np.ndarray:
    at = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    return (((at - centre) * SPACING) ** 2).sum(-1) < RADIUS**2


def saved(path: Path, data: np.ndarray) -> VolumeFile:
    nib.save(nib.Nifti1Image(data, affine()), path)
    return VolumeFile(path)


@pytest.fixture
def scan(tmp_path: Path) -> VolumeFile:
    noise = np.random.default_rng(0).normal(200, 15, SHAPE)
    return saved(tmp_path / "scan.nii.gz", (noise + 500 * ball()).astype(np.int16))


class Balls(nn.Module):
    """In place of the network: a ball of the radius around the newest click, less those around clicks beside."""

    config = FastSam3dConfig()

    def encode(self, cube: Tensor) -> Tensor:
        self.cube = cube[0, 0]
        return torch.zeros(1, 4, 8, 8, 8)

    def decode(
        self, embedding: Tensor, clicks: Tensor, labels: Tensor, previous: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        at = torch.stack(torch.meshgrid(*[torch.arange(32) * 4 + 1.5] * 3, indexing="ij"), -1)
        inside = RADIUS - 1.5 * (at - clicks[0, 0]).norm(dim=-1)
        assert previous is not None
        if previous.any():
            inside = torch.minimum(previous[0, 0], -inside) if labels[0, 0] == 0 else inside.maximum(previous[0, 0])
        return inside[None, None].expand(1, 4, -1, -1, -1), torch.full((1, 4), 0.8)


def dice(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(2 * (found & wanted).sum() / (found.sum() + wanted.sum()))


def test_the_axes_of_the_cube_are_those_of_the_body(tmp_path: Path) -> None:
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    world = grid @ affine()[:3, :3].T + affine()[:3, 3]
    for axis in range(3):
        volume = saved(tmp_path / "v.nii", (world[..., axis] + 200).astype(np.float32))
        cube = Cube.around(np.array([CENTRE], np.float64), volume, 16, 1.5)
        voxels = cube.cut(volume)
        expected = 200 + (affine() @ [*CENTRE, 1])[axis] + 1.5 * (np.arange(16) - 8)
        assert np.allclose(np.moveaxis(voxels, axis, -1), expected, atol=1e-3)
        assert np.allclose(cube.place(np.array([CENTRE])), 8)


def test_the_cube_is_padded_with_zeros(scan: VolumeFile) -> None:
    voxels = Cube.around(np.array([[0.0, 24, 14]]), scan, 128, 1.5).cut(scan)
    covered = (voxels != 0).any((1, 2)).sum(), (voxels != 0).any((0, 2)).sum(), (voxels != 0).any((0, 1)).sum()
    assert covered == (50, 40, 50)  # 75, 60 and 75 mm of k, i and j
    assert not voxels[:, 65:].any(), "i runs backward from the click"


def test_a_volume_in_the_networks_own_voxels_is_cut_unchanged(tmp_path: Path) -> None:
    data = np.random.default_rng(1).uniform(1, 9, (40, 40, 40)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.diag([1.5, 1.5, 1.5, 1])), tmp_path / "v.nii")
    voxels = Cube.around(np.array([[20.0, 20, 20]]), VolumeFile(tmp_path / "v.nii"), 32, 1.5).cut(
        VolumeFile(tmp_path / "v.nii")
    )
    assert np.array_equal(voxels, data[4:36, 4:36, 4:36])


def test_masks_return_to_the_voxels(scan: VolumeFile) -> None:
    cube = Cube.around(np.array([CENTRE], np.float64), scan, 64, 1.5)
    at = np.stack(np.meshgrid(*[np.arange(64) - 32] * 3, indexing="ij"), -1)
    mask = VolumeMask((RADIUS - 1.5 * np.linalg.norm(at, axis=-1)).astype(np.float32), cube, SHAPE, 1.0)
    found = np.stack([mask.slice(k) for k in range(SHAPE[2])], 2)
    assert dice(found, ball()) > 0.98


def test_clicks_correct_the_answer_before(scan: VolumeFile) -> None:
    network = build(SMALL)
    segmenter = VolumeSegmenter(network)
    cube = Cube.around(np.array([CENTRE], np.float64), scan, SMALL.side, 1.5)
    embedding = segmenter.embed(cube.cut(scan))
    clicks, labels = np.array([[16.0, 16, 16], [10, 16, 16]]), np.array([1, 0])
    first, second = segmenter.answers(embedding, clicks, labels)
    (again,) = segmenter.answers(embedding, clicks[:1], labels[:1])
    assert torch.equal(first.logits, again.logits)
    (alone,) = segmenter.answers(embedding, clicks[1:], labels[1:])
    assert first.logits.shape == (4, 32, 32, 32)
    assert not torch.equal(second.logits, alone.logits), "the answer before is a prompt"


def test_objects_become_labels(scan: VolumeFile, tmp_path: Path) -> None:
    prompts = ["points=28.5,24.5@14#2", "points=5,5@2#7"]
    summary = segment_volume(scan.path, prompts, lambda: VolumeSegmenter(Balls()), tmp_path / "out")
    image = nib.load(tmp_path / "out" / "labels.nii.gz")
    labels = np.asarray(image.dataobj)
    assert np.array_equal(image.affine, nib.load(scan.path).affine)
    for number, centre in ((2, CENTRE), (7, (5, 5, 2))):
        assert dice(labels == number, ball(centre)) > 0.93  # the network's masks have voxels of 6 mm
    assert np.allclose(np.argwhere(labels == 2).mean(0), CENTRE, atol=0.6)
    assert [entry.id for entry in summary.objects] == [2, 7]
    assert summary.objects[0].voxels == (labels == 2).sum()
    assert summary.objects[0].millilitres == pytest.approx((labels == 2).sum() * 1.0 * 1.5 * 2.5 / 1000, abs=1e-3)
    assert json.loads(json.dumps(summary.to_json()))["objects"][0]["quality"] == 0.8
    with pytest.raises(ConfigError, match="--overwrite"):
        segment_volume(scan.path, prompts, lambda: VolumeSegmenter(Balls()), tmp_path / "out")
    segment_volume(scan.path, prompts, lambda: VolumeSegmenter(Balls()), tmp_path / "out", overwrite=True)


def test_clicks_of_several_slices_come_from_json(scan: VolumeFile, tmp_path: Path) -> None:
    clicks = [
        {"points": [[28, 24]], "frame": 14, "object_id": 1},
        {"points": [[28, 30]], "labels": [0], "frame": 14, "object_id": 1},
    ]
    (tmp_path / "clicks.json").write_text(json.dumps(clicks))
    segment_volume(scan.path, [str(tmp_path / "clicks.json")], lambda: VolumeSegmenter(Balls()), tmp_path / "out")
    labels = np.asarray(nib.load(tmp_path / "out" / "labels.nii.gz").dataobj)
    assert labels[28, 19, 14] == 1
    assert labels[28, 24, 14] == labels[28, 30, 14] == 0
    assert not (labels[~ball()]).any()


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("points=28,24", "@SLICE"),
        ("points=28,24@1.5s", "@SLICE"),
        ("points=28,24@30", "no slice 30: 0 to 29"),
        ("points=61,24@3", "outside"),
        ("box=1,1,20,20@3", "a box cannot prompt"),
    ],
)
def test_other_prompts_are_refused(scan: VolumeFile, tmp_path: Path, prompt: str, said: str) -> None:
    with pytest.raises(SamVideoError, match=said):
        segment_volume(scan.path, [prompt], lambda: pytest.fail("loaded"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_clicks_far_from_each_other_are_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((4, 4, 90), np.uint8), np.diag([1, 1, 3, 1])), tmp_path / "v.nii")
    with pytest.raises(PromptError, match="267 mm apart: at most 190 mm"):
        segment_volume(
            tmp_path / "v.nii",
            ["points=1,1@0#1", "points=1,1@89#1"],
            lambda: VolumeSegmenter(Balls()),
            tmp_path / "out",
        )


def test_volumes_without_positive_intensities_are_refused(tmp_path: Path) -> None:
    volume = saved(tmp_path / "v.nii", np.full(SHAPE, -50, np.int16))
    with pytest.raises(VideoError, match=r"add an offset.*size of the voxels, which is .* mm"):
        segment_volume(volume.path, ["points=1,1@0"], lambda: VolumeSegmenter(Balls()), tmp_path / "out")


def test_a_target_that_cannot_be_written_is_said(scan: VolumeFile, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        segment_volume(scan.path, ["points=1,1@0"], lambda: pytest.fail("loaded"), tmp_path / "file" / "out")
