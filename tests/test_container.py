"""The Dockerfile and compose.yaml: linted, carried out without an engine, and the health check on a real page."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
STEPS = ROOT / "tests" / "container_steps.py"


def page_service() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is missing")
    service: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]["page"]
    return service


def test_dockerfile_is_linted() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is missing")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_what_git_ignores_is_not_copied() -> None:
    ignored = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text("utf-8").split()}
    assert ignored <= {line.removeprefix("**/") for line in (ROOT / ".dockerignore").read_text("utf-8").split()}


def test_page_of_compose_is_for_this_machine_only() -> None:
    service = page_service()
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


def test_health_check_tells_a_page_that_serves_from_none(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    service = page_service()
    check = [sys.executable, *service["healthcheck"]["test"][2:]]
    check[-1] = check[-1].replace("8765", port)
    video = tmp_path / "clip"
    video.mkdir()
    write_frames(video)
    command = [part.replace("8765", port) for part in service["command"]]
    command[1] = str(video)
    assert command[0] == "ui"
    assert "--no-browser" in command

    def healthy() -> bool:
        return subprocess.run(check, stderr=subprocess.DEVNULL, check=False).returncode == 0

    assert not healthy()
    arguments = [sys.executable, "-m", "samvideo", *command, "--model", "flow", "-o", str(tmp_path / "out")]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 120
        while not (served := healthy()) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)  # as `docker stop` does
        process.wait(60)
    assert served
    assert not healthy()


def write_frames(folder: Path) -> None:
    import cv2

    for index in range(4):
        cv2.imwrite(str(folder / f"{index:05d}.png"), np.full((48, 64, 3), 40 * index, np.uint8))


@pytest.mark.long
@pytest.mark.parametrize(
    ("target", "options"),
    [
        (
            "runtime",
            ["--then", "samvideo demo-clip clip.mp4 --frames 6 && samvideo track clip.mp4 -p clip.prompts.json"],
        ),
        ("test", ["--arg", "TESTS=tests/test_types.py tests/test_packaging.py"]),
    ],
)
def test_steps_of_the_dockerfile(target: str, options: list[str]) -> None:
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("overlay file systems need root on Linux")
    if subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    packages = str(Path(np.__file__).parents[1])
    index = "TORCH_INDEX=https://pypi.org/simple"
    command = [sys.executable, STEPS, target, "--packages", packages, "--arg", index, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
