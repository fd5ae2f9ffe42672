"""Serves the page with an exported model, on this machine only: `python demos/browser/serve.py EXPORT [PORT]`."""

import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = Path(__file__).parent
MODEL = "/model/"


def main(export: str, port: str = "8000") -> None:
    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            inside = path.startswith(MODEL)
            self.directory = export if inside else str(PAGE)
            return super().translate_path(path.removeprefix(MODEL[:-1]) if inside else path)

        def end_headers(self) -> None:
            # only pages that are isolated from others may use threads
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            super().end_headers()

    if not (Path(export) / "manifest.json").is_file():
        sys.exit(f"{export} has no manifest.json: the folder that `samvideo export-model` wrote expected")
    if not (PAGE / "vendor").is_dir():
        sys.exit(f"ONNX Runtime Web is missing: python {PAGE / 'fetch.py'}")
    with ThreadingHTTPServer(("127.0.0.1", int(port)), Handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
