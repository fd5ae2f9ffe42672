"""Pages: escaping, strictness, and images inside the page."""

import base64

import cv2
import jinja2
import numpy as np
import pytest

from samvideo.reporting.pages import jpeg_uri, render_page


def test_values_are_escaped() -> None:
    title = "</title><script>{{ 1 + 1 }}"
    page = render_page("evaluation.html", title=title, sections=[], image_sections=[], published_images=None)
    assert "<title>&lt;/title&gt;&lt;script&gt;{{ 1 + 1 }}</title>" in page
    assert "default-src 'none'" in page


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="sections"):
        render_page("evaluation.html", title="x")


def test_an_image_keeps_its_colours() -> None:
    rgb = np.full((8, 16, 3), (200, 30, 60), np.uint8)
    kind, data = jpeg_uri(rgb).split(",")
    assert kind == "data:image/jpeg;base64"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded[..., ::-1].astype(int) - rgb).max() < 8
