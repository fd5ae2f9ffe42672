"""Whether anybody still has the page open.

Threads: the server's thread counts, the tracking thread asks `gone`. They share one immutable tuple.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

AFTER_GOODBYE = 10.0  # seconds: a page that is reloaded says goodbye too, and asks for itself again within these
AFTER_SILENCE = 60.0  # a tunnel may break off and come back


class _Count(NamedTuple):
    pages: int = 0
    goodbye: float = -math.inf  # when a page said that it is being closed
    since: float = 0.0  # when the last page disappeared


class OpenPages:
    """Counts the open pages.

    Attributes:
        ever: whether there was one.
    """

    def __init__(self) -> None:
        self._count = _Count()
        self.ever = False

    @contextmanager
    def page(self) -> Iterator[None]:
        """Count one more page while entered."""
        self._count, self.ever = _Count(self._count.pages + 1, self._count.goodbye), True
        try:
            yield
        finally:
            self._count = self._count._replace(pages=self._count.pages - 1, since=time.monotonic())

    def left(self) -> None:
        """Note that a page says goodbye."""
        pages, now = self._count.pages, time.monotonic()
        # One that is closed at once has never been counted.
        self._count, self.ever = _Count(pages, now, self._count.since if pages else now), True

    def loading(self) -> None:
        """Note that a page is being loaded: the goodbye before it was that of a reload, however slow it is."""
        self._count = self._count._replace(goodbye=-math.inf, since=time.monotonic())

    def gone(self, *, silent: bool) -> bool:
        """Whether the last page was closed for good; with `silent` a long silence counts as well."""
        pages, goodbye, since = self._count
        if pages or not self.ever:
            return False
        quiet = time.monotonic() - since
        # The goodbye of another page, long before the last one fell silent, says nothing about that one.
        closed = abs(goodbye - since) < AFTER_GOODBYE
        return quiet > AFTER_GOODBYE if closed else silent and quiet > AFTER_SILENCE
