"""Carry out a Dockerfile without a container engine: `python tests/container_steps.py TARGET [--arg NAME=VALUE]`.

For root on Linux. Instead of the base image there is this machine, seen through overlay file systems, one for each
stage, that are dropped at the end. So the steps are tried, and what they need of the base image is not.
`--packages DIR` takes the packages of another environment for installed, instead of downloading gigabytes.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

ROOT = Path(__file__).parent.parent


Step = tuple[str, str]


def read_stages(text: str) -> dict[str, tuple[str, list[Step]]]:
    """By the name of a stage, what it begins from, and its instructions with their arguments."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stages: dict[str, tuple[str, list[Step]]] = {}
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            base, _, stage = rest.partition(" AS ")
            steps: list[Step] = []
            stages[stage] = base, steps
        elif stages:
            steps.append((name, re.sub(r"--mount=\S+ ", "", rest).strip()))
    return stages


@dataclass
class Stage:
    """What a stage has changed in the file system, and how its commands run."""

    root: Path
    layers: list[Path]
    env: dict[str, str]
    folder: str = "/"
    user: str = "0"
    given: dict[str, str] = field(default_factory=dict)

    def run(self, command: str) -> None:
        """Run a shell command in the stage; CalledProcessError if it fails."""
        print(f"+ {command}", flush=True)
        arguments = ["chroot", f"--userspec={self.user}:{self.user}", self.root, "/bin/sh", "-ec"]
        env = {**self.env, **self.given, "HOME": "/tmp" if self.user != "0" else "/root"}
        subprocess.run([*arguments, f"cd {self.folder} && {command}"], check=True, env=env)


class Builder:
    """Carries out stages below a scratch folder; the process has its own mounts."""

    def __init__(self, scratch: Path, given: dict[str, str], packages: str | None) -> None:
        self.scratch, self.given, self.packages = scratch, given, packages
        self.plan = read_stages((ROOT / "Dockerfile").read_text("utf-8"))
        self.stages: dict[str, Stage] = {}

    def stage(self, name: str) -> Stage:
        """A stage, which is carried out when it is asked for the first time."""
        if name not in self.plan:  # the base image
            return Stage(Path("/"), [Path("/")], dict(os.environ))
        if name not in self.stages:
            base, steps = self.plan[name]
            stage = self.stages[name] = self._begin(self.stage(base), name)
            for step in steps:
                self._step(stage, *step)
        return self.stages[name]

    def _begin(self, below: Stage, name: str) -> Stage:
        top, work, root = (self.scratch / name / part for part in ("top", "work", "root"))
        for path in (top, work, root):
            path.mkdir(parents=True)
        layers = ":".join(map(str, below.layers))
        options = f"lowerdir={layers},upperdir={top},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, root], check=True)
        for place in ("dev", "proc"):
            subprocess.run(["mount", "--rbind", f"/{place}", root / place], check=True)
        (root / "root").chmod(0o755)  # Python may be installed there
        return Stage(root, [top, *below.layers], dict(below.env), below.folder, below.user)

    def _step(self, stage: Stage, name: str, rest: str) -> None:
        rest = Template(rest).safe_substitute(stage.env) if name in ("ENV", "WORKDIR") else rest
        if name == "ARG":
            key, _, value = rest.partition("=")
            stage.given[key] = self.given.get(key, value)
        elif name == "ENV":
            stage.env |= dict(part.split("=", 1) for part in shlex.split(rest))
        elif name == "WORKDIR":
            stage.folder = rest
            (stage.root / rest[1:]).mkdir(parents=True, exist_ok=True)
        elif name == "USER":
            stage.user = rest
        elif name == "RUN":
            stage.run(rest)
            if self.packages and "-m venv" in rest:
                stage.run(f"echo {self.packages} > $(echo /opt/samvideo/lib/python*/site-packages)/others.pth")
        elif name == "COPY" and rest.startswith("--from="):
            other, source, place = rest.removeprefix("--from=").split()
            subprocess.run(["cp", "-aT", self.stage(other).root / source[1:], stage.root / place[1:]], check=True)
        elif name == "COPY":
            ignored = f"--exclude-from={ROOT / '.dockerignore'}"
            files = subprocess.run(["tar", "-C", ROOT, ignored, "-c", "."], check=True, capture_output=True)
            subprocess.run(["tar", "-C", stage.root / stage.folder[1:], "-x"], input=files.stdout, check=True)
        elif name not in ("ENTRYPOINT", "CMD"):
            raise SystemExit(f"{name} is not known here")


def main() -> None:
    """Carry out the Dockerfile, and then, in the target, the commands that are given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--arg", action="append", default=[])
    parser.add_argument("--packages")
    parser.add_argument("--then", action="append", default=[], help="command to run in the target afterwards")
    options = parser.parse_args()
    if os.environ.get("OWN_MOUNTS") is None:
        os.environ["OWN_MOUNTS"] = "1"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])
    scratch = Path(tempfile.mkdtemp(prefix="samvideo-steps-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", scratch], check=True)
    try:
        given = dict(arg.split("=", 1) for arg in options.arg)
        stage = Builder(scratch, given, options.packages).stage(options.target)
        for command in options.then:
            stage.run(command)
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", scratch], check=True)
        scratch.rmdir()


if __name__ == "__main__":
    main()
