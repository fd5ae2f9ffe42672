"""The files of this run, and nothing else, for the browser to download.

Threads: the tracking thread offers, those of the pool read; the lock lets one of them at a time pack a folder.
"""

import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from samvideo.errors import ConfigError
from samvideo.io.base import Closing


class Downloads(Closing):
    """Context manager; files by kind, offered once they are written, and a folder as a zip."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[str, Path] = {}
        self._zips: dict[str, Path] = {}
        self._folder = TemporaryDirectory(prefix="samvideo-")

    def offer(self, files: Mapping[str, Path]) -> None:
        """Offer these files; those offered before are withdrawn."""
        with self._lock:
            self._files, self._zips = dict(files), {}

    def file(self, kind: str) -> Path:
        """The file of that kind. Raises ConfigError when there is none (yet)."""
        with self._lock:
            path = self._files.get(kind)
            if path is None or not path.exists():
                raise ConfigError(f"there is no file {kind!r:.60} now: track first, and wait until it is saved")
            if path.is_dir():
                path = self._zips[kind] = self._zips.get(kind) or self._pack(path)
            return path

    def _pack(self, folder: Path) -> Path:
        path = Path(self._folder.name) / f"{folder.name}.zip"
        with zipfile.ZipFile(path, "w") as archive:  # masks are compressed already
            for image in sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg")):
                archive.write(image, f"{folder.name}/{image.name}")
        return path

    def close(self) -> None:
        """Delete the zipped folders."""
        self._folder.cleanup()
