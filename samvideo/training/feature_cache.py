"""Features of pictures on disk, for an encoder that does not learn: computed once, read by later steps and runs."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import torch
from torch import Tensor

from samvideo.image_model import ImageModel
from samvideo.io.files import write_atomically
from samvideo.training.engine import Log
from samvideo.training.teacher_cache import content, state_digest
from samvideo.weights.read import check_archive

Maps: TypeAlias = tuple[Tensor, tuple[Tensor, ...]]
"""What an encoder returns."""


@contextmanager
def cached_features(model: ImageModel, folder: Path, log: Log) -> Iterator[None]:
    """Within the block, the model's encoder reads what it made of a picture from a folder, or adds it there.

    The name of a file is a digest of the encoder, of the picture as the encoder gets it, and of the number format:
    what was computed otherwise is never read. Several processes may share a folder.

    Args:
        model: whose encoder does not learn.
        folder: of the files, one a picture.
        log: gets what was read and computed.
    """
    cache, encoder = _Cache(model, folder, log), model.encoder
    encoder.forward = cache.maps  # type: ignore[method-assign]
    try:
        yield
    finally:
        del encoder.forward
    log(f"features: {cache.read} read, {cache.computed} computed, {cache.size / 1e6:.1f} MB each")


class _Cache:
    def __init__(self, model: ImageModel, folder: Path, log: Log) -> None:
        self._encode, self._folder, self._log = model.encoder.forward, folder, log
        self._encoder = f"{model.spec.encoder} {state_digest(model.encoder)}"
        self.read = self.computed = self.size = 0

    def maps(self, image_bchw: Tensor) -> Maps:
        """As the encoder's `forward`."""
        coarse, fine = zip(*map(self._of_one, torch.split(image_bchw, 1)), strict=True)
        return torch.cat(coarse), tuple(torch.cat(level) for level in zip(*fine, strict=True))

    def _of_one(self, image: Tensor) -> Maps:
        device = image.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else image.dtype
        digest = hashlib.sha256(f"{self._encoder} {device} {dtype} {tuple(image.shape)}".encode())
        digest.update(content(image))
        file = self._folder / f"{digest.hexdigest()}.pt"
        if file.is_file():
            try:
                with zipfile.ZipFile(file) as archive:
                    check_archive(archive, file.stat().st_size)
                maps: Maps = torch.load(file, map_location=image.device, weights_only=True)
                self.read, self.size = self.read + 1, file.stat().st_size
                return maps
            except Exception as error:  # unpickling raises nearly anything
                self._log(f"{file} is damaged ({type(error).__name__}), and is computed again")
        with torch.no_grad():
            coarse, fine = self._encode(image)
        self._write(file, (coarse, fine))
        return coarse, fine

    def _write(self, file: Path, maps: Maps) -> None:
        stream, (coarse, fine) = io.BytesIO(), maps
        whole = coarse.clone(), tuple(level.clone() for level in fine)  # a view would be saved with its base
        torch.save(whole, stream)
        own = file.with_suffix(f".{uuid4().hex}")  # another process may write the same, under the same other name
        write_atomically(own, stream.getvalue())
        own.replace(file)
        self.computed, self.size = self.computed + 1, stream.tell()
