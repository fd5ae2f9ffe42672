"""Whether anybody still looks at the page."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

AFTER_GOODBYE = 4.0  # seconds: a page that is loaded anew says goodbye too
AFTER_SILENCE = 60.0  # a tunnel may break off and come back


class Presence:
    """Counts open pages; may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages = 0
        self._goodbye = False
        self._since = time.monotonic()
        self.ever = False

    @contextmanager
    def page(self) -> Iterator[None]:
        """While entered, one more page is open."""
        with self._lock:
            self._pages += 1
            self._goodbye, self.ever = False, True
        try:
            yield
        finally:
            with self._lock:
                self._pages -= 1
                self._since = time.monotonic()

    def left(self) -> None:
        """A page said goodbye."""
        with self._lock:
            self._goodbye = True

    def gone(self, *, silent: bool) -> bool:
        """Whether the last page was closed for good; with `silent` a long silence counts as well."""
        with self._lock:
            if self._pages or not self.ever:
                return False
            quiet = time.monotonic() - self._since
            return quiet > AFTER_GOODBYE if self._goodbye else silent and quiet > AFTER_SILENCE
