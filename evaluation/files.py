"""Reading and writing mask files: one place, so that every error names the path and the fix."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from samvideo.errors import DatasetError
from samvideo.types import UInt8Array


def read_index_png(path: Path) -> UInt8Array:
    """The values of a palette or grey PNG, uint8 (H, W).

    Raises:
        DatasetError: missing, unreadable, or a colour picture.
    """
    try:
        with Image.open(path) as image:
            if image.mode == "1":
                return np.array(image, np.uint8)
            if image.mode not in ("P", "L"):
                raise DatasetError(
                    f"{path} is a colour picture (mode {image.mode}): a palette or grey PNG expected, whose values "
                    "are object numbers; convert it with the data set's colour table"
                )
            return np.array(image)
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing: restore it from the data set's archive") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DatasetError(
            f"{path} cannot be read ({error}): replace it by a fresh copy from the archive"
        ) from error
