"""Load test of `samvideo serve` on this machine: `python demos/serve_load.py SESSIONS MINUTES [OPTION ...]`.

Each client tracks one of four clips again and again, and at times vanishes in the middle of a request and comes
back. All masks must be those of the clip tracked alone, up to the rounding of batches. Options are the server's.
"""

import http.client
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from samvideo.demo import demo_frames
from samvideo.geometry import mask_box
from samvideo.io.rle import decode_rle

if len(sys.argv) < 3:
    sys.exit(__doc__)
COMMAND = [sys.executable, "-m", "samvideo", "serve", "--port", "0", "--max-sessions", "200", *sys.argv[3:]]
LEAST_IOU = 0.98  # of a mask in a batch and alone; those of two clips overlap by far less
BAD = (b"", b"{", b"[]", b'{"prompts": [{"box": [1]}]}', b'{"frame": -1}', b"\xff" * 99, b'{"steps": 1e999}')
counts: Counter[str] = Counter()
seconds: list[float] = []
lock = threading.Lock()  # of the counts


def count(name: str, more: int = 1) -> None:
    with lock:
        counts[name] += more


def ask(method: str, path: str, body: bytes | None = None, vanish: bool = False) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request(method, path, body, {"authorization": f"Bearer {token}", "content-type": "application/json"})
    answer = None if vanish else connection.getresponse()
    text = answer.read() if answer else b""
    connection.close()
    return answer.status if answer else 0, json.loads(text) if text else None


def follow(pictures: list[bytes], prompts: bytes, expected: list[Any] | None = None) -> list[Any]:
    """Track a clip in a session of its own; return the objects of every frame."""
    at, found = f"/sessions/{ask('POST', '/sessions')[1]['id']}", []
    while len(found) < len(pictures) and (expected is None or time.monotonic() < end):
        begin, index = time.perf_counter(), len(found)
        vanish = expected is not None and random.random() < 0.05
        status, record = ask("POST", f"{at}/frames?index={index}", pictures[index], vanish)
        if status == 200 and index == 0:
            status, record = ask("POST", f"{at}/prompts", prompts)
        if status in (0, 409):  # it has vanished, or its request of before is still being answered: again
            count("vanished", status == 0)
            time.sleep(0.2)
        elif status == 200:
            seconds.append(time.perf_counter() - begin)
            found.append(record["objects"])
            count("mixed up", expected is not None and not alike(found[-1], expected[index]))
        else:
            count("lost")
            return found
    count("closed", ask("DELETE", at)[0] == 204)
    return found


def alike(objects: list[Any], expected: list[Any]) -> bool:
    """Whether two results of a frame have the same objects and nearly the same masks."""
    if [one["id"] for one in objects] != [one["id"] for one in expected]:
        return False
    masks, others = ([decode_rle(one["segmentation"]) for one in several] for several in (objects, expected))
    return all((a & b).sum() >= LEAST_IOU * (a | b).sum() for a, b in zip(masks, others, strict=True))


def send_nonsense(number: int) -> None:
    at = f"/sessions/{ask('POST', '/sessions')[1]['id']}"
    paths = (
        "/sessions/x",
        "/sessions/x/prompts",
        "/%00",
        f"{at}/frames",
        f"{at}/video",
        f"{at}/step",
        f"{at}/prompts",
    )
    for method, path, body in islice(cycle(product(("POST", "PUT", "PATCH"), paths, BAD)), number):
        status, _ = ask(method, path, body)
        count(f"bad requests answered by {status // 100}xx")


def clips() -> list[tuple[list[bytes], bytes]]:
    frames, made = list(islice(demo_frames(48, (320, 180)), 12)), []
    for y, x in product((1, -1), (1, -1)):
        pictures = [cv2.imencode(".png", rgb[::y, ::x, ::-1].copy())[1].tobytes() for rgb, _ in frames]
        box = mask_box(frames[0][1][0, ::y, ::x])
        made.append((pictures, json.dumps({"prompts": [{"box": box}]}).encode()))
    return made


def report(name: str) -> None:
    size = (
        int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8"))[0]) >> 10
    )
    with lock:
        taken, counted = list(seconds), dict(counts)
    p50, p95 = np.percentile(taken or [0], (50, 95))
    print(f"{name}: {len(taken)} frames, p50 {p50:.2f} s, p95 {p95:.2f} s; server {size} MB; {counted}", flush=True)


def client(number: int) -> None:
    while time.monotonic() < end:
        follow(*made[number % 4], alone[number % 4])


sessions, minutes = int(sys.argv[1]), float(sys.argv[2])
log = Path(tempfile.mkdtemp()) / "serve.log"
with log.open("w", encoding="utf-8") as messages:
    process = subprocess.Popen(COMMAND, stderr=messages)
try:
    while (
        not (said := re.search(r":(\d+),.*\ntoken: (.+)\n", log.read_text(encoding="utf-8")))
        and process.poll() is None
    ):
        time.sleep(0.1)
    if said is None:
        sys.exit(f"the server has not started: {log.read_text(encoding='utf-8')}")
    port, token = int(said[1]), said[2]
    made = clips()
    alone = [follow(*clip) for clip in made]
    report("alone")
    seconds.clear()
    end = time.monotonic() + 60 * minutes
    with ThreadPoolExecutor(sessions + 1) as pool:
        waiting = [pool.submit(client, number) for number in range(sessions)] + [pool.submit(send_nonsense, 1000)]
        time.sleep(30 * minutes)
        report("half way")
        for one in waiting:
            one.result()
    report("at the end")
finally:
    process.terminate()
    code = process.wait(60)
    print(f"exit code after SIGTERM: {code}; messages of the server: {log}")
faults = [name for name in ("mixed up", "lost", "bad requests answered by 5xx") if counts[name]]
if faults or code:
    sys.exit(f"failed: {', '.join(faults) or 'the server'}")
