"""NIfTI volumes as sources, and label volumes."""

import gzip
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from samvideo.errors import ConfigError, VideoError
from samvideo.io.source import open_video
from samvideo.io.volumes import LabelVolume, VolumeFile, volume_name

nib = pytest.importorskip("nibabel")

SHAPE = (20, 16, 12)
SPACING = (0.9, 1.2, 2.0)


def oblique(angle: float = 0.3) -> np.ndarray:
    """An affine with i to the back, j up, k to the left, tilted, and voxels of `SPACING`."""
    c, s = np.cos(angle), np.sin(angle)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, s, -c], [-1, 0, 0], [0, c, s]]) @ np.diag(SPACING)
    affine[:3, 3] = 11, -23, 5
    return affine


def volume(path: Path, data: np.ndarray | None = None, kind: type = nib.Nifti1Image) -> Path:
    if data is None:
        data = np.random.default_rng(0).normal(300, 90, SHAPE).astype(np.int16)
    image = kind(data, oblique())
    image.set_qform(oblique(), "scanner")
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"JOHN DOE"
    nib.save(image, path)
    return path


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64, np.uint8])
def test_frames_are_slices(tmp_path: Path, name: str, kind: type, dtype: type) -> None:
    data = np.random.default_rng(0).integers(0, 200, SHAPE).astype(dtype)
    with open_video(volume(tmp_path / name, data, kind), window=(0, 255)) as source:
        frames = list(source)
        source.seek(3)
        again = next(iter(source))
    assert source.info.name == "v"
    assert (source.info.size_wh, source.info.frame_count) == (SHAPE[:2], SHAPE[2])
    assert float(source.info.pixel_aspect) == pytest.approx(0.75)
    for k, frame in enumerate(frames):
        assert frame.index == k
        assert np.array_equal(frame.rgb, np.repeat(data[:, :, k].T.astype(np.uint8)[..., None], 3, 2))
    assert np.array_equal(again.rgb, frames[3].rgb)


def test_the_window_is_the_middle_of_the_intensities(tmp_path: Path) -> None:
    data = np.random.default_rng(1).normal(300, 90, SHAPE).astype(np.float32)
    data[3, 4, 5] = 1e9
    low, high = np.percentile(data, (0.5, 99.5))
    with open_video(volume(tmp_path / "v.nii", data)) as source:
        shown = np.stack([frame.rgb[..., 0].T for frame in source], 2)
    expected = np.clip((data - low) / (high - low), 0, 1) * 255
    assert np.abs(shown - expected).max() <= 0.51


def test_what_is_no_number_is_zero(tmp_path: Path) -> None:
    data = np.ones(SHAPE, np.float64)
    data[0, 0, 0], data[1, 0, 0], data[2, 0, 0] = np.nan, np.inf, 1e300
    plane = VolumeFile(volume(tmp_path / "v.nii", data)).slice(0)
    assert plane[:4, 0].tolist() == [0, 0, 0, 1]


def test_one_intensity_is_black(tmp_path: Path) -> None:
    with open_video(volume(tmp_path / "v.nii", np.full(SHAPE, 7, np.int16))) as source:
        assert not next(iter(source)).rgb.any()


def test_geometry_is_read(tmp_path: Path) -> None:
    file = VolumeFile(volume(tmp_path / "v.nii.gz"))
    assert file.spacing == pytest.approx(SPACING, abs=1e-5)
    assert file.orientation == ((1, -1), (2, 1), (0, -1))
    image = nib.load(file.path)
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "small.nii")
    assert VolumeFile(tmp_path / "small.nii").spacing == pytest.approx([s / 1000 for s in SPACING], abs=1e-5)


@pytest.mark.parametrize(("highest", "dtype"), [(7, np.uint8), (300, np.int16), (70000, np.int32)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_labels_lie_where_the_volume_lies(tmp_path: Path, highest: int, dtype: type, kind: type) -> None:
    path = volume(tmp_path / "v.nii.gz", kind=kind)
    labels = np.zeros(SHAPE, np.int32)
    labels[4:9, 3:7, 2:5], labels[0, 0, 11] = highest, 1
    with LabelVolume(tmp_path / "labels.nii.gz", path) as file:
        for k in (11, 3, 2, 4):  # the others are empty
            file.write(k, labels[:, :, k].T)
    found, like = nib.load(tmp_path / "labels.nii.gz"), nib.load(path)
    assert found.get_data_dtype() == dtype
    assert type(found) is kind
    assert np.array_equal(np.asarray(found.dataobj), labels)
    assert np.array_equal(found.affine, like.affine)
    for form in ("get_qform", "get_sform"):
        (ours, code), (theirs, wanted) = (getattr(image, form)(coded=True) for image in (found, like))
        assert code == wanted
        assert np.array_equal(ours, theirs)
    assert found.header.get_zooms() == like.header.get_zooms()
    assert found.header.get_xyzt_units() == ("mm", "sec")
    assert b"JOHN" not in gzip.decompress((tmp_path / "labels.nii.gz").read_bytes())


def test_a_fourth_axis_of_one_entry_is_kept(tmp_path: Path) -> None:
    path = volume(tmp_path / "v.nii", np.ones((*SHAPE, 1), np.int16))
    with LabelVolume(tmp_path / "labels.nii.gz", path) as file:
        file.write(2, np.ones(SHAPE[1::-1], np.int32))
    found = np.asarray(nib.load(tmp_path / "labels.nii.gz").dataobj)
    assert found.shape == (*SHAPE, 1)
    assert found.sum() == found[:, :, 2].sum() == SHAPE[0] * SHAPE[1]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.zeros((*SHAPE, 5), np.int16), "holds 5 volumes.*slicer"),
        (np.zeros((20, 16), np.int16), "three axes"),
        (np.zeros(SHAPE, np.complex64), "complex64"),
        (np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]), "colours"),
    ],
)
def test_other_volumes_are_refused(tmp_path: Path, data: np.ndarray, said: str) -> None:
    with pytest.raises(VideoError, match=said):
        open_video(volume(tmp_path / "v.nii.gz", data))


def test_a_singular_affine_is_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros(SHAPE, np.int16), None)
    affine = np.zeros((4, 4))
    affine[0, 0] = affine[3, 3] = 1
    image.header.set_sform(affine, 1)
    nib.save(image, tmp_path / "v.nii")
    with pytest.raises(VideoError, match="no usable voxel size"):
        open_video(tmp_path / "v.nii")


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_damaged_files_are_refused_clearly(tmp_path: Path, name: str) -> None:
    good = volume(tmp_path / name).read_bytes()
    raw = gzip.decompress(good) if name.endswith("gz") else good
    random = np.random.default_rng(2)
    for number in range(150):
        changed = bytearray(raw)
        for place in random.integers(0, 352, 1 + number % 4):  # of the header
            changed[place] = random.integers(0, 256)
        data = bytes(changed[: random.integers(0, len(raw))] if number % 3 == 0 else changed)
        data = gzip.compress(data) if name.endswith("gz") else data
        if number % 5 == 0:
            data = data[: len(data) // 2]
        (tmp_path / name).write_bytes(data)
        with suppress(VideoError), open_video(tmp_path / name) as source:  # and nothing else
            assert next(iter(source)).rgb.ndim == 3


@pytest.mark.parametrize("content", [b"", b"no volume at all", gzip.compress(b"", mtime=0)])
def test_what_is_no_volume_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.nii.gz").write_bytes(content)
    with pytest.raises(VideoError, match=r"v\.nii\.gz cannot be read as a NIfTI volume"):
        open_video(tmp_path / "v.nii.gz")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="does not exist"):
        VolumeFile(tmp_path / "v.nii")


def test_windows_are_checked(tmp_path: Path) -> None:
    path = volume(tmp_path / "v.nii")
    with pytest.raises(ConfigError, match="low and a higher"):
        open_video(path, window=(3, 3))
    with pytest.raises(ConfigError, match="a window is for volumes"):
        open_video([np.zeros((8, 8, 3), np.uint8)], window=(0, 1))


def test_a_missing_nibabel_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = volume(tmp_path / "v.nii")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ConfigError, match=r'pip install "samvideo\[medical\]"'):
        open_video(path)


def test_names_lose_both_suffixes() -> None:
    assert [volume_name(Path(name)) for name in ("a/b.nii", "a/b.nii.gz", "b.x.NII.GZ")] == ["b", "b", "b.x"]
