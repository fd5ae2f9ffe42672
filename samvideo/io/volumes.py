"""NIfTI volumes: as a source whose frames are slices, and label volumes as results. Needs nibabel."""

import gzip
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from os import PathLike, fspath
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samvideo.errors import ConfigError, OutputError, VideoError
from samvideo.io.base import Closing
from samvideo.io.files import replacing
from samvideo.io.images import DEFAULT_RATE, Stills
from samvideo.types import FloatArray, Frame, UInt8Array, VideoInfo

SUFFIXES = (".nii", ".nii.gz")
LABELS = "labels.nii.gz"
PERCENTILES = (0.5, 99.5)  # of the intensities, which become black and white
SAMPLES = 2_000_000  # intensities of which percentiles are taken
MAX_SLICE = 2**27  # voxels of a slice; a damaged header may claim more
MILLIMETRES = {"meter": 1000.0, "micron": 0.001}
# fields of the header that labels share with their volume
GEOMETRY = [f"{name}_{axis}" for name in ("qoffset", "srow") for axis in "xyz"]
GEOMETRY += ["quatern_b", "quatern_c", "quatern_d", "qform_code", "sform_code", "pixdim", "xyzt_units"]


def is_volume(source: object) -> bool:
    """Return whether a source is the path of a NIfTI file, by its name."""
    return isinstance(source, (str, PathLike)) and str(fspath(source)).lower().endswith(SUFFIXES)


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise ConfigError('NIfTI volumes need nibabel: pip install "samvideo[medical]"') from error
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # the errors here say the same
    return nibabel


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # nibabel raises whatever a damaged header leads to
        if isinstance(error, (VideoError, ConfigError)):
            raise
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoError(
            f"{path} cannot be read as a NIfTI volume: {reason}; it is damaged or cut short"
        ) from error


class VolumeFile:
    """One NIfTI volume, read slice by slice; implements `samvideo.segmenters.volume.Volume`.

    Intensities are scaled as the header says; those that are not finite numbers are 0. A fourth axis may have one
    entry.

    Args:
        path: a .nii or .nii.gz file.

    Attributes:
        path, name: the file, and its name without suffix.
        shape: voxels along the axes i, j, k.
        spacing: their distances in millimetres.
        orientation: see `samvideo.segmenters.volume.Volume`.
        header: of nibabel.

    Raises:
        VideoError: no NIfTI volume, several of them, colours, or damaged.
        ConfigError: nibabel is missing.
    """

    def __init__(self, path: Path) -> None:
        nibabel = _nibabel()
        self.path, self.name = path, volume_name(path)
        if not path.is_file():
            raise VideoError(f"{path} does not exist, or is not a file: a .nii or .nii.gz file expected")
        with _reading(path):
            image = nibabel.load(path, keep_file_open=True)
            if not isinstance(image, nibabel.Nifti1Pair):
                raise VideoError(f"{path} is a {type(image).__name__}, not a NIfTI volume")
            self.header, self._voxels = image.header, image.dataobj
            _check_kind(path, image.shape, image.get_data_dtype())
            width, height, count = (int(side) for side in image.shape[:3])
            self.shape = width, height, count
            self._check_length()
            self._read_geometry(nibabel, image.affine)

    def _check_length(self) -> None:
        if math.prod(self.shape[:2]) > MAX_SLICE:
            raise VideoError(f"{self.path} states slices of {self.shape[0]}x{self.shape[1]} voxels: it is damaged")
        needed = self._voxels.offset + math.prod(self.shape) * self._voxels.dtype.itemsize
        if self.path.suffix.lower() == ".nii" and (there := self.path.stat().st_size) < needed:
            raise VideoError(f"{self.path} is cut short: {needed} bytes expected, not {there}")

    def _read_geometry(self, nibabel: Any, affine: NDArray[np.float64]) -> None:
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        if not (np.isfinite(affine).all() and sizes.all() and np.linalg.matrix_rank(affine[:3, :3] / sizes) == 3):
            raise VideoError(
                f"{self.path} has no usable voxel size and orientation, its affine is {affine[:3].tolist()}: set "
                "it, for instance with nibabel's set_sform"
            )
        unit = MILLIMETRES.get(self.header.get_xyzt_units()[0], 1.0)
        x, y, z = (float(size) * unit for size in sizes)
        self.spacing = x, y, z
        self.orientation = tuple((int(axis), int(way)) for axis, way in nibabel.io_orientation(affine))

    def slice(self, index: int) -> FloatArray:
        """Intensities (I, J) of slice k; VideoError if they cannot be read."""
        with _reading(self.path), np.errstate(over="ignore", invalid="ignore"):
            place = (slice(None), slice(None), index, *([0] * (self._voxels.ndim - 3)))
            plane = np.asarray(self._voxels[place]).astype(np.float32)
        return np.nan_to_num(plane, copy=False, posinf=0.0, neginf=0.0)

    def window(self) -> tuple[float, float]:
        """Return the `PERCENTILES` of a sample of all intensities, or their extremes where these are equal.

        The whole file is read for it.
        """
        step = max(1, math.ceil(math.sqrt(math.prod(self.shape) / SAMPLES)))
        sample = np.concatenate([self.slice(k)[::step, ::step].ravel() for k in range(self.shape[2])])
        low, high = np.percentile(sample, PERCENTILES)
        return (low, high) if low < high else (float(sample.min()), float(sample.max()))


def volume_name(path: Path) -> str:
    """Return the name of a NIfTI file without its suffix."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def _check_kind(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "iuf":
        kind = "colours" if dtype.names else f"values of type {dtype}"
        raise VideoError(f"{path} holds {kind}: a volume of plain numbers expected")
    if len(shape) < 3 or min(shape) < 1:
        raise VideoError(f"{path} has the shape {shape}: a volume of three axes expected")
    if math.prod(shape[3:]) > 1:
        raise VideoError(
            f"{path} holds {math.prod(shape[3:])} volumes, its shape is {shape}: one expected; save one of them, "
            "for instance with nibabel: nib.save(nib.load(FILE).slicer[..., 0], 'first.nii.gz')"
        )


class VolumeSource(Stills):
    """The slices of a NIfTI volume as frames: frame k is slice k, with x along the axis i and y along j.

    No axis is turned, so that pixels of frames are voxels of the file. Intensities from `low` to `high` become grey
    values from 0 to 255.

    Args:
        path: a .nii or .nii.gz file.
        rate: slices per second where they are shown as a video.
        window: low and high; by default percentiles, see `VolumeFile.window`.

    Raises:
        VideoError, ConfigError: see `VolumeFile`; a window that is empty.
    """

    def __init__(self, path: Path, rate: Fraction | None = None, window: tuple[float, float] | None = None) -> None:
        self._volume: VolumeFile | None = VolumeFile(path)
        self._window = window or self._volume.window()
        self.files = [path]
        width, height, count = self._volume.shape
        rate = rate or DEFAULT_RATE
        aspect = self._volume.spacing[0] / self._volume.spacing[1]
        self.info = VideoInfo(
            self._volume.name,
            (width, height),
            rate,
            count,
            float(count / rate),
            "nifti",
            pixel_aspect=Fraction(aspect).limit_denominator(1000) if 0.01 < aspect < 100 else Fraction(1),
        )

    def _read(self) -> Frame | None:
        if self._volume is None or self._place >= self._volume.shape[2]:
            return None
        index = self._place
        frame = self._frame(index, to_rgb(self._volume.slice(index), self._window), f"slice {index}")
        self._place += 1
        return frame

    def seek(self, index: int) -> None:
        """See `VideoSource.seek`. Going back in a .nii.gz file reads it again from its start."""
        self._check_index(index)
        self._place = index

    def _release(self) -> None:
        self._volume = None


def to_rgb(plane: FloatArray, window: tuple[float, float]) -> UInt8Array:
    """Intensities (I, J) as a grey picture (J, I, 3): those of the window from black to white."""
    low, high = window
    share = (plane.T.astype(np.float64) - low) / ((high - low) or 1.0)
    grey = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, 2)


class LabelVolume(Closing):
    """`labels.nii.gz`: object ids at the voxels of a volume, with its shape, affine and units; 0 where nothing is.

    Nothing else of the header is kept: it may name a patient. Slices come in any order; until `close` they are in a
    temporary file beside the target, and the target is written at once.

    Args:
        target: the file to write.
        like: the volume whose geometry it gets.

    Raises:
        OSError: the folder cannot be written.
        VideoError, ConfigError: see `VolumeFile`.
    """

    def __init__(self, target: Path, like: Path) -> None:
        self._target, self._volume = target, VolumeFile(like)
        self._file: Any = TemporaryFile(dir=target.parent)  # noqa: SIM115 (closed by `close`)
        self._file.truncate(4 * math.prod(self._volume.shape))

    def write(self, index: int, labels_yx: NDArray[np.int32]) -> None:
        """Write slice k: ids (J, I), as a frame of `VolumeSource` has them."""
        width, height, count = self._volume.shape
        if labels_yx.shape != (height, width) or not 0 <= index < count:
            raise OutputError(
                f"slice {index} of {labels_yx.shape} does not fit {self._volume.path}, which has {count} of "
                f"{(height, width)}"
            )
        self._file.seek(4 * index * width * height)
        self._file.write(np.ascontiguousarray(labels_yx, np.int32).tobytes())

    def close(self) -> None:
        """Write the target; may be called twice."""
        if self._file.closed:
            return
        with self._file, replacing(self._target) as part, part.open("wb") as file:
            self._file.flush()
            shape = self._volume.header.get_data_shape()
            image = self._image(np.memmap(self._file, np.int32, "r", shape=shape, order="F"))
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                image.to_stream(packed)

    def _image(self, labels: NDArray[np.int32]) -> Any:
        nibabel = _nibabel()
        header = type(self._volume.header)()
        header.set_data_shape(labels.shape)
        for field in GEOMETRY:
            header[field] = self._volume.header[field]
        highest = int(labels.max())
        header.set_data_dtype(
            next(dtype for dtype in (np.uint8, np.int16, np.int32) if highest <= np.iinfo(dtype).max)
        )
        header.set_intent("label")
        kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
        return kind(labels, None, header)
