"""The page's server in this process, and a visitor."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from page_helpers import request

from samvideo.demo import demo_frames
from samvideo.io.source import VideoSource, open_video
from samvideo.segmenters.grabcut import GrabCutSegmenter
from samvideo.trackers.flow import FlowTracker
from samvideo.web.downloads import Downloads
from samvideo.web.open_pages import OpenPages
from samvideo.web.project import Project
from samvideo.web.proposing import MakePrompter, make_prompter
from samvideo.web.server import PageServer, listen

SIZE = 160, 96
PICTURES = [rgb for rgb, _ in demo_frames(6, SIZE)]


def source() -> VideoSource:
    return open_video(PICTURES, rate=25)


class Site:
    """A server in this process, and a visitor with or without its cookie."""

    def __init__(self, address: str, project: Project, open_pages: OpenPages, downloads: Downloads) -> None:
        self.address, self.project, self.open_pages, self.downloads = address, project, open_pages, downloads
        self.base, self.query = address.split("?")
        self.host = self.base.split("/")[2]
        status, headers, _ = request(self.base, f"/?{self.query}")
        assert (status, headers["location"]) == (303, "/")
        self.set_cookie = headers["set-cookie"]
        self.cookie = self.set_cookie.split(";")[0]

    def connect(self) -> socket.socket:
        host, port = self.host.rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout=10)

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return request(self.base, path, Cookie=self.cookie, **headers)

    def post(self, path: str, value: Any, **headers: str) -> tuple[int, dict[str, str], bytes]:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        usual = {"Origin": f"http://{self.host}", "Content_Type": "application/json", "Cookie": self.cookie}
        return request(self.base, path, "POST", body, **{**usual, **headers})

    def edit(self, **what: Any) -> tuple[int, Any]:
        status, _, body = self.post("/api/edit", what)
        return status, json.loads(body)


@contextmanager
def serve_page(make_prompter: MakePrompter = make_prompter) -> Iterator[Site]:
    with source() as video:
        info = video.info
    open_pages = OpenPages()
    with (
        Project(
            info,
            source,
            FlowTracker(),
            GrabCutSegmenter,
            tool="box",
            direction="forward",
            model="flow",
            make_prompter=make_prompter,
        ) as project,
        Downloads() as downloads,
        PageServer(project, open_pages, downloads, listen("127.0.0.1", 0), "127.0.0.1") as server,
    ):
        yield Site(server.address, project, open_pages, downloads)
