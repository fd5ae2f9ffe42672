"""One browser for the tests of a module."""

from collections.abc import Iterator
from typing import Any

import pytest
from page_helpers import find_chromium, open_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("playwright")
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with open_browser(executable) as context:
        yield context
