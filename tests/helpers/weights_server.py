"""A local server of weights that misbehaves in the ways of `Server`."""

import io
import pickle
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from samvideo.weights.contents import SAM2_PARTS


def checkpoint_file(parts: tuple[str, ...] = SAM2_PARTS) -> bytes:
    """A file of 1 MiB with parameters in these parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(
            "model/data.pkl", pickle.dumps({"model": {f"{part}weight": 0 for part in parts}}, protocol=2)
        )
        archive.writestr("model/data/0", bytes(range(256)) * 4096)
    return file.getvalue()


CONTENT = checkpoint_file()


@dataclass
class Server:
    """What the server offers, and what it was asked for."""

    address: str = ""
    content: bytes = CONTENT
    cut_after: list[int] = field(default_factory=list)  # bytes given before the line breaks, one per request
    status: int = 200
    ranges: list[str | None] = field(default_factory=list)
    resumable: bool = True
    headers: dict[str, str] = field(default_factory=dict)  # of every answer, such as ETag
    length: bool = True  # whether the length is sent
    shift: int = 0  # added to the start in Content-Range
    asked: list[dict[str, str]] = field(default_factory=list)  # the headers of the requests


@contextmanager
def serve() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.ranges.append(wanted)
            state.asked.append(dict(self.headers))
            if state.status != 200:
                self.send_response(state.status)
                for name, value in {"Content-Length": "0", **state.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                return
            same = self.headers.get("If-Range") in (None, state.headers.get("ETag"))
            first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.resumable and same else 0
            if first > len(state.content):
                self.send_error(416)
                return
            body = state.content[first:]
            self.send_response(206 if first else 200)
            if state.length:
                self.send_header("Content-Length", str(len(body)))
            if first:
                start, total = first + state.shift, len(state.content)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: state.cut_after.pop(0)] if state.cut_after else body)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.address = f"http://127.0.0.1:{http.server_port}/model.pt"
        yield state
        http.shutdown()
        thread.join()
