"""The command with its page in another process, a browser to drive it, and what they say."""

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 90.0  # seconds; a loaded machine tracks slowly


def find_chromium() -> str | None:
    """The system's Chromium: SAMVIDEO_CHROMIUM, or one on the path."""
    named = os.environ.get("SAMVIDEO_CHROMIUM")
    names = ("chromium", "chromium-browser", "google-chrome")
    return named or next((found for name in names if (found := shutil.which(name))), None)


def wait_until(true: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Poll, since the page's policy forbids what the driver would use to wait."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)
    return found


def make_clip(folder: Path, frames: int = 24, width: int = 320, height: int = 180) -> list[tuple[float, ...]]:
    """demo.mp4 in the folder, and the boxes of its objects on the first frame."""
    size = ("--frames", str(frames), "--width", str(width), "--height", str(height))
    subprocess.run([sys.executable, "-m", "samvideo", "demo-clip", *size], cwd=folder, check=True)
    entries = json.loads((folder / "demo.prompts.json").read_text())["prompts"]
    return [tuple(entry["box"]) for entry in entries]


class Command:
    """`samvideo track ... --no-browser` under way; `address` is what it printed."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        model = "grabcut" if arguments[0] == "segment" else "flow"
        named = [] if "--weights" in arguments else ["--model", model]
        line = [sys.executable, "-m", "samvideo", *map(str, arguments), "--no-browser", *named]
        self._process = subprocess.Popen(
            line, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address = wait_until(lambda: next((line for line in self.said if "?token=" in line), None))

    def _read(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            self.said.append(line.strip())

    @property
    def base(self) -> str:
        return self.address.split("?")[0]

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def ended(self, seconds: float = PATIENCE) -> int:
        """The exit code, once it has ended."""
        code = self._process.wait(seconds)
        self._reader.join(10)
        return code

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(10)
        assert self._process.stderr
        self._process.stderr.close()


@contextmanager
def command(folder: Path, *arguments: object) -> Iterator[Command]:
    running = Command(folder, *arguments)
    try:
        yield running
    finally:
        running.stop()


@contextmanager
def open_browser(executable: str) -> Iterator[Any]:
    """A browser context with a profile of its own."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            profile, executable_path=executable, args=FLAGS, viewport={"width": 1280, "height": 720}
        )
        context.set_default_timeout(PATIENCE * 1000)
        yield context
        context.close()


class Page:
    """The page as a person sees it."""

    def __init__(self, context: Any, address: str) -> None:
        self.tab = context.new_page()
        self.mouse, self.keyboard = self.tab.mouse, self.tab.keyboard
        self.complaints: list[str] = []
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.tab.goto(address)
        self.ready()

    def ready(self) -> None:
        wait_until(lambda: self.tab.evaluate("window.samvideo?.pictures.shown.bitmap != null"))

    def state(self) -> dict[str, Any]:
        return self.tab.evaluate("samvideo.model.state")

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the video lies in the window."""
        left, top = self.tab.evaluate("([x, y]) => samvideo.stage.toScreen(x, y)", [x, y])
        box = self.tab.locator("#stage").bounding_box()
        return box["x"] + left, box["y"] + top

    def drag(self, x1: float, y1: float, x2: float, y2: float) -> None:
        self.mouse.move(*self.at(x1, y1))
        self.mouse.down()
        self.mouse.move(*self.at((x1 + x2) / 2, (y1 + y2) / 2))
        self.mouse.move(*self.at(x2, y2))
        self.mouse.up()

    def click(self, x: float, y: float) -> None:
        self.mouse.click(*self.at(x, y))

    def key(self, *keys: str) -> None:
        for key in keys:
            self.keyboard.press(key)

    def outlines(self, frame: int, object_id: int, source: str) -> list[list[int]]:
        """The outlines drawn for an object, once they come from `source` ("preview" or "tracked")."""

        def found() -> Any:
            shown = self.tab.evaluate("(({frame, objects}) => ({frame, objects}))(samvideo.pictures.shown)")
            entry = shown["objects"].get(str(object_id))
            return entry if shown["frame"] == frame and entry and entry["source"] == source else None

        return wait_until(found)["shapes"]

    def finish(self) -> None:
        """Press Finish, then end the command."""
        self.tab.click("#finish")
        self.tab.wait_for_selector("#done[open]")
        self.tab.click("#end")

    def wait_saved(self) -> None:
        """Until tracking has ended and its files are written."""
        wait_until(lambda: (s := self.state())["phase"] == "idle" and s["files"])


class FramedPage(Page):
    """The page within another one, which is open in `tab`."""

    def __init__(self, tab: Any) -> None:
        self.mouse, self.keyboard = tab.mouse, tab.keyboard
        self.tab = tab.wait_for_selector("iframe").content_frame()
        self.ready()


def request(
    address: str, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One raw request, its path sent as it is: (status, headers, body)."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()
