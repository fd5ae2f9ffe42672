"""Mask images from a browser, checked before they are decoded."""

from samvideo.errors import PromptError, VideoError
from samvideo.io.mask_pictures import OPTIONS
from samvideo.io.masks import read_mask_objects
from samvideo.types import BoolArray

MAX_BYTES = 16 << 20


def decode_objects(data: bytes, size_wh: tuple[int, int]) -> dict[int, BoolArray]:
    """The objects of a PNG by ascending id, each bool (H, W), as the command line reads them.

    Its size is checked in the header, so that a small file cannot unpack into a large one. Raises PromptError for a
    file that is too large, no PNG, not the video's size, damaged, blank, or no mask.
    """
    if len(data) > MAX_BYTES:
        raise PromptError(f"the file is over {MAX_BYTES >> 20} MB: a PNG at the video's size expected")
    try:
        objects = read_mask_objects(data, size_wh=size_wh, formats=("PNG",))
    except VideoError as error:
        raise PromptError(str(error).removesuffix(OPTIONS)) from None  # a page has no options
    if not objects:
        raise PromptError("the mask is blank: at least one pixel above 0 expected")
    return objects
