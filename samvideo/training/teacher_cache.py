"""What a teacher makes of pictures, in shards on disk: computed once, read by any number of trainings."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import Dataset

from samvideo.errors import DatasetError
from samvideo.io.files import write_atomically
from samvideo.training.engine import Log
from samvideo.training.images import Example, Squares

SHARD = 32
"""Pictures of a shard."""
Encode = Callable[[Tensor], Sequence[Tensor]]
"""Makes maps (B, C, h, w) of pictures, uint8 (B, 3, S, S)."""


class TeacherCache(Dataset[Example]):
    """Pictures, and what a teacher makes of each: maps in float16, read from shards.

    The name of a shard is a digest of the teacher, of the pictures in it and of their size: what was computed for
    other pictures is never read, and an unfinished cache is gone on with.

    Args:
        folder: of the shards.
        teacher: what tells the teacher and its maps from all others, see `state_digest`.
        squares: the pictures; the order of shards is theirs.
    """

    def __init__(self, folder: Path, teacher: str, squares: Squares) -> None:
        self.teacher, self.squares = teacher, squares
        how = f"{teacher} {squares.spec.picture} {squares.spec.mean} {squares.side}"
        digests = [picture.digest for picture in squares.pictures]
        self.files = [
            folder / f"{_digest(how, *digests[first : first + SHARD])}.safetensors"
            for first in range(0, len(digests), SHARD)
        ]

    def fill(self, encode: Encode, log: Log, batch: int = 8) -> None:
        """Compute the shards that are missing, in order; OutputError if they cannot be written."""
        missing = [number for number, file in enumerate(self.files) if not file.is_file()]
        if missing:
            log(f"features of the teacher: {len(missing)} of {len(self.files)} shards to compute")
        for number in missing:
            rows = range(number * SHARD, min((number + 1) * SHARD, len(self.squares)))
            pictures = torch.stack([self.squares[row][0] for row in rows])
            with torch.no_grad():
                parts = [[x.cpu().half() for x in encode(some)] for some in torch.split(pictures, batch)]
            maps = [torch.cat(part).contiguous() for part in zip(*parts, strict=True)]
            write_atomically(self.files[number], save({str(k): value for k, value in enumerate(maps)}))

    def __len__(self) -> int:
        return len(self.squares)

    def __getitem__(self, row: int) -> Example:
        """A picture and its maps; DatasetError if the shard is damaged."""
        file = self.files[row // SHARD]
        try:
            with safe_open(file, "pt") as shard:
                names = sorted(shard.keys(), key=int)
                maps = [shard.get_slice(name)[row % SHARD] for name in names]
        except (SafetensorError, OSError) as error:
            raise DatasetError(f"{file} is damaged: remove it, and it is computed again ({error})") from error
        return (*self.squares[row], *maps)


def state_digest(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers of a model, with their names."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(content(value))
    return digest.hexdigest()


def content(value: Tensor) -> bytes:
    """The bytes of a tensor, whatever its strides."""
    return bytes(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())


def _digest(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:32]
