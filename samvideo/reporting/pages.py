"""HTML pages from Jinja templates: values are escaped, and a missing value is an error."""

import base64
from typing import Any

import cv2
from jinja2 import Environment, PackageLoader, StrictUndefined

from samvideo.types import UInt8Array


def render_page(template: str, **values: Any) -> str:
    """Fill a template of `samvideo/reporting/templates`.

    Args:
        template: its file name.
        values: what its expressions may use; strings are escaped except those marked as `safe` in the template.
    """
    environment = Environment(
        loader=PackageLoader("samvideo.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def jpeg_uri(rgb: UInt8Array) -> str:
    """Encode an image, uint8 (H, W, 3), as a JPEG in a `data:` URI."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
