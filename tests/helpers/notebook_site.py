"""Notebooks for tests: their cells in a real kernel, and JupyterLab around them."""

import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from page_helpers import PATIENCE, wait_until

DEMO = Path(__file__).parents[2] / "demos" / "annotate.ipynb"


class Notebook:
    """A notebook under execution; the cells run in a thread, since a browser's driver occupies the caller's."""

    def __init__(self, client: Any, cells: list[Any], thread: ThreadPoolExecutor) -> None:
        self.cells, self._client, self._thread = cells, client, thread

    def begin(self, number: int) -> "Future[Any]":
        """Execute a cell."""
        return self._thread.submit(self._client.execute_cell, self.cells[number], number)

    def run(self, number: int) -> list[Any]:
        """Execute a cell, and return its outputs: MIME bundles, and texts of streams under text/plain."""
        outputs = self.begin(number).result(120)["outputs"]
        return [output.get("data") or {"text/plain": output.get("text")} for output in outputs]


@contextmanager
def executed(path: Path, folder: Path) -> Iterator[Notebook]:
    """A notebook file, with a kernel in a folder; the kernel is shut down after the block."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, timeout=120)
    with ThreadPoolExecutor(1) as thread:
        kernel = client.setup_kernel()
        thread.submit(kernel.__enter__).result(120)
        try:
            yield Notebook(client, notebook.cells, thread)
        finally:
            thread.submit(kernel.__exit__, None, None, None).result(120)


@contextmanager
def served(html: str) -> Iterator[str]:
    """A page of another site than 127.0.0.1 with this content: what a notebook makes of a cell's output."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"<!doctype html><body>{html}".encode()
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()
        thread.join()


@contextmanager
def jupyterlab(folder: Path) -> Iterator[tuple[str, str]]:
    """JupyterLab that serves a folder and keeps its own files there: its address, and the query with its token."""
    own = {f"JUPYTER_{name}_DIR": str(folder / f".{name.lower()}") for name in ("CONFIG", "DATA", "RUNTIME")}
    token = secrets.token_hex(8)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    line = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    line += [f"--IdentityProvider.token={token}", "--LabApp.news_url=None", f"--ServerApp.root_dir={folder}"]
    environment = {**os.environ, **own, "IPYTHONDIR": str(folder / ".ipython")}
    with (folder / ".log").open("w") as log:
        running = subprocess.Popen(line, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            wait_until(lambda: "is running at" in (folder / ".log").read_text(), 3 * PATIENCE)
            yield f"http://localhost:{port}", f"token={token}"
        finally:
            running.terminate()
            running.wait(60)
