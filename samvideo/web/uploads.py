"""Mask images from a browser, checked before they are decoded."""

import io
import tempfile
from pathlib import Path

from PIL import Image

from samvideo.errors import PromptError, VideoError
from samvideo.io.masks import read_mask_objects
from samvideo.types import BoolArray

MAX_BYTES = 16 << 20


def decode_masks(data: bytes, size_wh: tuple[int, int]) -> dict[int, BoolArray]:
    """The objects of a mask image by ascending id, each bool (H, W), as `read_mask_objects` finds them.

    Its size is checked in the header, so that a small file cannot unpack into a large one. Raises PromptError for a
    file that is too large, no PNG, not the video's size, damaged, or blank.
    """
    if len(data) > MAX_BYTES:
        raise PromptError(f"the file is over {MAX_BYTES >> 20} MB: a PNG at the video's size expected")
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            found_wh = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise PromptError("the file is no PNG image: save the mask as PNG") from None
    if found_wh != size_wh:
        raise PromptError(
            f"the mask is {found_wh[0]}x{found_wh[1]}, the video {size_wh[0]}x{size_wh[1]}: the same size expected"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.png"
        path.write_bytes(data)
        try:
            masks = read_mask_objects(path)
        except (VideoError, SyntaxError) as error:
            raise PromptError(str(error).replace(str(path), "image")) from None
    if not masks:
        raise PromptError("the mask is blank: at least one pixel above 0 expected")
    return masks
