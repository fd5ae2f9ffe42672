"""Install the built wheel without its dependencies and use it from another folder: `check_wheel.py WHEEL_DIR`."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

CODE = """
import samvideo, samvideo.memory, samvideo.trackers.flow, samvideo.evaluation
from pathlib import Path
home = Path(samvideo.__file__).parent
assert home.parent.name == "site", home
assert (home / "py.typed").exists() and (home / "trackers").is_dir(), sorted(home.iterdir())
assert (home / "web" / "static" / "index.html").exists()
assert (home / "evaluation" / "published.csv").exists()
bundled = {path.name for path in (home / "bundled").iterdir()}
assert {"CARD.md", "nano.safetensors", "nano-prompter.safetensors"} <= bundled
"""


def main(wheels: Path) -> None:
    """Check the one wheel in the folder; exits non-zero when it does not work."""
    (wheel,) = wheels.resolve().glob("*.whl")
    with tempfile.TemporaryDirectory() as temporary:
        site = Path(temporary) / "site"
        install = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(site),
            str(wheel),
        ]
        subprocess.run(install, check=True)
        environment = {**os.environ, "PYTHONPATH": str(site)}
        for arguments in (
            ["-c", CODE],
            ["-m", "samvideo", "demo-clip", "clip.mp4", "--frames", "6", "--width", "160", "--height", "96"],
            ["-m", "samvideo", "track", "clip.mp4", "--prompt", "clip.prompts.json", "-o", "out", "--quiet"],
        ):
            subprocess.run([sys.executable, *arguments], check=True, cwd=temporary, env=environment)
        written = sorted(path.name for path in (Path(temporary) / "out").iterdir())
        assert written == ["masks", "overlay.mp4", "run.json", "tracks.csv", "tracks.json", "tracks.jsonl"], written
    print(f"{wheel.name} works")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
