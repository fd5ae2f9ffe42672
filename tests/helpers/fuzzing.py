"""Broken inputs for the commands: `fuzzing.py TARGET SECONDS SEED` tries one kind of them in the working folder.

Every example must end with an exit code of ours, within EXAMPLE seconds; hypothesis prints the smallest one that
does not. The last line is the number of examples and the peak memory in MB. See `tests/test_fuzz.py`.
"""

import copy
import faulthandler
import json
import logging
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from clips import write_clip
from evaluation_builders import davis2016, davis2017, lvos, sav_train, youtubevos
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from runs_made import INFO, SIZE, box, disc, results, write_run
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.errors import SamVideoError
from samvideo.exports import FORMATS
from samvideo.io.sink import VideoWriter

EXAMPLE = 20.0  # seconds that one example may take
OURS = {0, 2, 3, 4, 5}
OUTSIDE = ("../sentinel/new", str(Path.cwd().parent / "sentinel" / "new"), "..", "a\0b")
WRONG = [
    None,
    True,
    -1,
    0,
    1.5,
    2**31,
    2**63,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    *OUTSIDE,
    [],
    {},
    [[1]],
]
FLOW = ("--model", "flow", "-o", "out", "--end", "2", "-q")


def call(*arguments: str) -> None:
    """Run a command in this process; whatever it raises is raised."""
    done = CliRunner().invoke(app, arguments)
    shutil.rmtree("out", ignore_errors=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in OURS, (arguments, done.exit_code, done.output)


def places(tree: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all values; of a list those to its first three."""
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))[:3] if isinstance(tree, list) else []
    for key in keys:
        yield (*before, key)
        yield from places(tree[key], (*before, key))


@st.composite
def bytes_of(draw: Any, data: bytes) -> bytes:
    """The data with up to four changes: a byte, a cut, something inserted, something removed."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 40))
        middle = draw(
            st.sampled_from([b"", b"\xff", b"0", b"[" * 5000, b"9" * 400, b"\n", b'"']) | st.binary(max_size=8)
        )
        data = data[:at] if draw(st.integers(0, 4)) == 0 else data[:at] + middle + data[at + length :]
    return data


@st.composite
def json_of(draw: Any, tree: Any) -> bytes:
    """The tree as JSON with up to three values replaced or left out."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        if not (paths := list(places(tree))):
            break
        *parents, last = draw(st.sampled_from(paths))
        node = tree
        for key in parents:
            node = node[key]
        if draw(st.integers(0, 5)) == 0:
            del node[last]
        else:
            node[last] = draw(st.sampled_from(WRONG) | st.integers() | st.floats() | st.text(max_size=5))
    return json.dumps(tree).encode()


def text_of(*pieces: str) -> st.SearchStrategy[str]:
    """Texts made of these pieces and of others."""
    return st.lists(st.sampled_from(pieces) | st.text(max_size=3), max_size=12).map("".join)


def video() -> st.SearchStrategy[Any]:
    paths = [write_clip(Path(f"good.{kind}"), 4, size_wh=(64, 48)) for kind in ("mp4", "mkv", "ts", "avi")]
    one = st.sampled_from(paths).flatmap(
        lambda path: st.tuples(st.just("v" + path.suffix), bytes_of(path.read_bytes()))
    )

    def attempt(given: tuple[str, bytes]) -> None:
        Path(given[0]).write_bytes(given[1])
        call("info", given[0])
        call("track", given[0], "-p", "box=4,4,40,40", *FLOW)

    return one.map(lambda given: (attempt, given))


def masks() -> st.SearchStrategy[Any]:
    write_clip(Path("v.mp4"), 2, size_wh=(64, 48))
    drawn = np.zeros((48, 64), np.uint8)
    drawn[8:30, 8:40] = 3
    for number, image in enumerate((Image.fromarray(drawn), Image.fromarray(drawn).convert("P"))):
        image.save(f"good{number}.png")
    good = [Path(f"good{number}.png").read_bytes() for number in range(2)]

    def attempt(given: bytes) -> None:
        Path("m.png").write_bytes(given)
        call("track", "v.mp4", "-p", "mask=m.png", *FLOW)

    return st.sampled_from(good).flatmap(bytes_of).map(lambda given: (attempt, given))


def prompts() -> st.SearchStrategy[Any]:
    write_clip(Path("v.mp4"), 2, size_wh=(64, 48))
    Image.fromarray(np.full((48, 64), 255, np.uint8)).save("m.png")
    entries = [{"box": [4, 4, 40, 40], "object_id": 2, "frame": 0}, {"mask": "m.png", "seconds": 0.0}]
    entries += [{"points": [[9, 9], [30, 30]], "labels": [1, 0], "object_id": 5}]

    def attempt(given: bytes | str) -> None:
        if isinstance(given, bytes):
            Path("p.json").write_bytes(given)
        call("track", "v.mp4", "-p", "p.json" if isinstance(given, bytes) else given, *FLOW)

    files = json_of(entries) | json_of({"prompts": entries}) | bytes_of(json.dumps(entries).encode())
    words = text_of(
        *(
            "box=",
            "points=",
            "mask=",
            "m.png",
            "v.mp4",
            "../m.png",
            "1",
            "40",
            "0.5",
            "9" * 5000,
            "9e9",
            "nan",
            "inf",
        ),
        *",/-#@:s",
    )
    return (files | words.filter(lambda text: text not in ("box", "points", "mask"))).map(
        lambda given: (attempt, given)
    )


def runs() -> st.SearchStrategy[Any]:
    made = results(4, lambda k: disc(20 + k, 50), lambda k: box(90, 30, 99, 40))
    base = write_run(Path("base"), [replace(result, labels={1: "tool"}) for result in made], labelled=True)
    with VideoWriter(Path("source.mp4"), SIZE, Fraction(25)) as writer:
        for index in range(4):
            writer.write(np.full((*SIZE[::-1], 3), 90, np.uint8), index / 25)
    tree = json.loads((base / "tracks.json").read_text())
    lines = [json.loads(line) for line in (base / "tracks.jsonl").read_text().splitlines()]
    record = {"status": "complete", "source": INFO.name, "settings": {"start": 0, "stride": 1}, "files": {}}
    joined = json_of(lines).map(
        lambda text: b"\n".join(json.dumps(line).encode() for line in json.loads(text)) + b"\n"
    )
    changed = st.one_of(
        st.tuples(st.just("tracks.json"), json_of(tree) | bytes_of((base / "tracks.json").read_bytes())),
        st.tuples(st.just("tracks.jsonl"), joined | bytes_of((base / "tracks.jsonl").read_bytes())),
        st.tuples(st.just("tracks.csv"), bytes_of((base / "tracks.csv").read_bytes())),
        st.tuples(st.just("run.json"), json_of(record) | bytes_of(json.dumps(record).encode())),
    )
    commands = [("analyze", "run", "-o", "out"), ("redact", "run", "--video", "source.mp4", "-o", "out/r.mp4")]
    commands += [("info", "run")]
    for name, spec in FORMATS.all().items():
        commands.append(("export", "run", "-f", name, "--video", "source.mp4", "-o", f"out/x{spec.suffix}"))

    def attempt(given: tuple[tuple[str, bytes], tuple[str, ...]]) -> None:
        (name, content), command = given
        shutil.rmtree("run", ignore_errors=True)
        Path("run").mkdir()
        if name == "run.json":
            shutil.copy(base / "tracks.jsonl", "run")
        (Path("run") / name).write_bytes(content)
        call(*command)

    return st.tuples(changed, st.sampled_from(commands)).map(lambda given: (attempt, given))


def datasets() -> st.SearchStrategy[Any]:
    roots = {build.__name__: build for build in (davis2016, davis2017, lvos, sav_train, youtubevos)}
    splits = {name: build(Path("data") / name) for name, build in roots.items()}
    lists = {
        "davis2016": "ImageSets/480p/train.txt",
        "davis2017": "ImageSets/2017/val.txt",
        "lvos": "valid/meta.json",
        "sav_train": "sav_train/sav_000/sav_000007_manual.json",
        "youtubevos": "valid/meta.json",
    }
    good = {name: (Path("data") / name / path).read_bytes() for name, path in lists.items()}

    def changed(name: str) -> st.SearchStrategy[Any]:
        content = bytes_of(good[name])
        if lists[name].endswith(".json"):
            content |= json_of(json.loads(good[name]))
        else:
            content |= text_of("bear", "\n", "/JPEGImages/480p/bear/00000.jpg ", "/", *OUTSIDE).map(str.encode)
        return st.tuples(st.just(name), content, st.sampled_from(["evaluate", "score"]))

    def attempt(given: tuple[str, bytes, str]) -> None:
        name, content, command = given
        root = Path("data") / name
        (root / lists[name]).write_bytes(content)
        start = [command, name.split("_")[0], str(root)]
        start += ["out"] if command == "score" else ["-o", "out", "--model", "flow", "--limit", "1"]
        Path("out").mkdir(exist_ok=True)
        call(*start, "--split", splits[name], "-q")

    return st.sampled_from(list(lists)).flatmap(changed).map(lambda given: (attempt, given))


def weights() -> st.SearchStrategy[Any]:
    import torch
    from safetensors.torch import save_file

    from samvideo.weights.read import read_state

    state = {"a.weight": torch.ones(3, 2), "a.bias": torch.zeros(3), "steps": torch.tensor(4)}
    torch.save({"model": state}, "good.pt")
    save_file(state, "good.safetensors")

    def attempt(given: tuple[str, bytes]) -> None:
        Path(given[0]).write_bytes(given[1])
        with suppress(SamVideoError):
            read_state(Path(given[0]))

    names = st.sampled_from([".pt", ".safetensors"])
    one = names.flatmap(lambda name: st.tuples(st.just("w" + name), bytes_of(Path("good" + name).read_bytes())))
    return one.map(lambda given: (attempt, given))


TARGETS: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
    target.__name__: target for target in (video, masks, prompts, runs, datasets, weights)
}


def main(name: str, seconds: float, first: int) -> None:
    """Try examples of one target for some seconds."""
    logging.disable(logging.WARNING)
    examples = TARGETS[name]()
    end, tried = float("inf"), 0

    @settings(max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(examples)
    def one(example: tuple[Callable[[Any], None], Any]) -> None:
        nonlocal end, tried
        if time.monotonic() > end:
            return
        end = end if tried else time.monotonic() + seconds
        tried += 1
        faulthandler.dump_traceback_later(EXAMPLE, exit=True)
        try:
            example[0](example[1])
        finally:
            faulthandler.cancel_dump_traceback_later()

    for number in count(first):
        seed(number)(one)()
        if time.monotonic() > end:
            break
    print(tried, peak_memory())


def peak_memory() -> int:
    """The peak of this process in MB; `ru_maxrss` would include that of the process which started it."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
