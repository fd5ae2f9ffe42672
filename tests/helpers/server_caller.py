"""A client of a server of sessions that runs on loopback."""

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serving_client import BOX


class Caller:
    """Requests over sockets, one connection each."""

    def __init__(self, address: str, token: str) -> None:
        self.place = urlsplit(address).netloc
        self.headers = {"authorization": f"Bearer {token}", "connection": "close"}

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.place, timeout=60)
        if isinstance(body, dict | list):
            body, headers = json.dumps(body).encode(), {"content-type": "application/json", **headers}
        connection.request(method, path, body, self.headers | headers)
        return connection.getresponse()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.send(method, path, body)
        text = answer.read()
        assert answer.status < 300, text
        return json.loads(text) if text else None

    def prompted(self, clip: Path) -> str:
        """The address of a session with a video and an object on its first frame."""
        at = f"/sessions/{self.ask('POST', '/sessions')['id']}"
        self.ask("PUT", f"{at}/video", clip.read_bytes())
        self.ask("POST", f"{at}/step")
        self.ask("POST", f"{at}/prompts", {"prompts": [{"box": BOX}]})
        return at

    def health(self) -> int:
        sessions: int = self.ask("GET", "/health")["sessions"]
        return sessions

    def head(self, method: str, path: str, length: int) -> bytes:
        """The head of a request with a JSON body."""
        return (
            f"{method} {path} HTTP/1.1\r\nhost: {self.place}\r\nauthorization: {self.headers['authorization']}\r\n"
            f"content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        ).encode()
