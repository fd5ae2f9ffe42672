"""A stand-in for a CVAT server with one task of images: what the SDK asks of it to annotate the task."""

import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from PIL import Image

from samvideo.types import UInt8Array

DAY = "2026-01-01T00:00:00Z"
LABELS = {"thing": 7, "ball": 8}


@contextmanager
def cvat_server(frames: Sequence[UInt8Array]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Address of a server whose task 1 has these images and `LABELS`, and the annotations that are sent to it."""
    sent: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(_answers(frames)[self.path.partition("?")[0].rstrip("/")])

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self._answer({"key": "0" * 40})

        def do_PATCH(self) -> None:
            assert re.fullmatch(r"/api/tasks/1/annotations/?\?action=create", self.path)
            sent.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self._answer({"tags": [], "shapes": [], "tracks": [], "version": 1})

        def _answer(self, content: Any) -> None:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(200)
            self.send_header("content-type", "application/zip" if data is content else "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", sent
        finally:
            server.shutdown()


def _answers(frames: Sequence[UInt8Array]) -> dict[str, Any]:
    height, width = frames[0].shape[:2]
    labels = [
        {"id": number, "name": name, "type": "any", "attributes": [], "sublabels": []}
        for name, number in LABELS.items()
    ]
    task = {
        "id": 1,
        "name": "one",
        "size": len(frames),
        "mode": "annotation",
        "organization": None,
        "dimension": "2d",
        "data_chunk_size": len(frames),
        "data_original_chunk_type": "imageset",
        "created_date": DAY,
        "updated_date": DAY,
        "jobs": {"count": 1, "completed": 0, "validation": 0, "url": ""},
        "labels": {"url": ""},
    }
    about = {"name": "CVAT", "description": "", "version": "2.80.0", "logo_url": "", "subtitle": ""}
    named = [{"name": f"{k}.png", "width": width, "height": height, "related_files": 0} for k in range(len(frames))]
    return {
        "/api/server/about": about,
        "/api/users/self": {"id": 1, "username": "user"},
        "/api/tasks/1": task,
        "/api/labels": {"count": len(labels), "next": None, "previous": None, "results": labels},
        "/api/tasks/1/data/meta": {"frames": named, "deleted_frames": [], "chunks_updated_date": DAY},
        "/api/tasks/1/data": _chunk(frames),
    }


def _chunk(frames: Sequence[UInt8Array]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for k, rgb in enumerate(frames):
            picture = io.BytesIO()
            Image.fromarray(rgb).save(picture, "PNG")
            archive.writestr(f"{k:06d}.png", picture.getvalue())
    return stream.getvalue()
