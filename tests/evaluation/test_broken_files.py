"""Files from outside that are damaged or made up: a sentence with the path, never a traceback."""

import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from evaluation_builders import endovis, endovis_challenge_2018, lvos, sav_train, youtubevos
from evaluation_helpers import make_run

from samvideo.errors import ConfigError, DatasetError
from samvideo.evaluation.datasets import open_dataset
from samvideo.evaluation.evaluate import evaluate
from samvideo.evaluation.report import write_report
from samvideo.evaluation.results import read_results, write_json
from samvideo.evaluation.thumbnails import Gallery

DRAWN = 4
STRANGE: list[Any] = [
    None, True, -1, 0, 1.5, 10**400, 1e308, "", "..", "x" * 500, "\x00", "../../x", "/x", "手 $y$ {z}", [], {},
    [[]], {"": None}, [None], ["a", 1],
]  # fmt: skip


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def changed(tree: Any, place: tuple[Any, ...], rng: random.Random) -> Any:
    """Replace or delete one value, or rename its key."""
    if not place:
        return rng.choice(STRANGE)
    tree = json.loads(json.dumps(tree))
    parent = tree
    for key in place[:-1]:
        parent = parent[key]
    kind = rng.random()
    if kind < 0.2:
        del parent[place[-1]]
    elif kind < 0.3 and isinstance(parent, dict):
        parent[str(rng.choice(STRANGE))] = parent.pop(place[-1])
    else:
        parent[place[-1]] = rng.choice(STRANGE)
    return tree


def damaged(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Broken forms of a JSON file: one wrong value each, and files that are not JSON."""
    rng, tree = random.Random(seed), json.loads(content)
    everywhere = list(places(tree))
    yield from (b"", b"{", content[: len(content) // 2], content[:40] + b"\xff" + content[40:], b"[" * 100_000)
    yield from (content.replace(b"1", b"NaN"), content.replace(b"0", b"1e999"), content.replace(b'"', b"'"))
    yield from (b"\xef\xbb\xbf" + content, content.decode().encode("utf-16"), b'"\\ud800"')
    for _ in range(count):
        yield json.dumps(changed(tree, rng.choice(everywhere), rng)).encode()


def check(path: Path, read: Callable[[], object], count: int, seed: int = 0) -> int:
    """The number of broken forms that were refused; any other error than a SamVideoError fails the test."""
    content = path.read_bytes()
    read()
    refused = 0
    for broken in damaged(content, count, seed):
        path.write_bytes(broken)
        try:
            read()
        except (ConfigError, DatasetError) as error:
            refused += len(str(error)) < 1500
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__} for {broken[:2000]!r}") from error
    path.write_bytes(content)
    return refused


def read_all(name: str, root: Path, split: str) -> None:
    dataset = open_dataset(name, root, split)
    for sequence in map(dataset.sequence, dataset.sequences()):
        for index in sequence.masks:
            dataset.truth(sequence, index)


@pytest.mark.parametrize(
    ("build", "file"),
    [
        (youtubevos, "valid/meta.json"),
        (youtubevos, "train/meta.json"),
        (lvos, "valid/meta.json"),
        (sav_train, "sav_train/sav_000/sav_000007_manual.json"),
        (endovis_challenge_2018, "labels.json"),
    ],
)
def test_annotation_files(build: Callable[[Path], str], file: str, tmp_path: Path) -> None:
    split, name = build(tmp_path), build.__name__.split("_")[0]
    split = "valid-parts" if name == "endovis" else split
    assert check(tmp_path / file, lambda: read_all(name, tmp_path, split), 150) > 50


def test_lists_of_sequences(davis: Path) -> None:
    listed = davis / "ImageSets/480p/val.txt"
    for content in (b"", b"\n \n", b"\xff\xfe\x00", b"be\x00ar", "bear​".encode(), b"a" * 5000, b"b\\ear", b".bear"):
        listed.write_bytes(content)
        with pytest.raises(DatasetError):
            open_dataset("davis2016", davis, "val")
    listed.write_bytes(b"\xef\xbb\xbfbear\r\ncow\r\nbear\r\n")
    assert open_dataset("davis2016", davis, "val").sequences() == ["bear", "cow"]


def test_results(davis: Path, tmp_path: Path) -> None:
    """Whatever `read_results` accepts, a page can be made of; the first few are drawn."""
    results = evaluate(make_run("davis2016", davis, "val", tmp_path / "run", limit=1))
    drawn = 0

    def read() -> None:
        nonlocal drawn
        read_results(tmp_path / "run")
        if drawn < DRAWN:
            drawn += 1
            write_report([tmp_path / "run"], tmp_path / "page.html")

    assert check(tmp_path / "run/results.json", read, 400) > 200
    assert read_results(tmp_path / "run") == results
    results["dataset"]["overall"], results["scores"]["G"] = "G", None
    write_json(tmp_path / "run/results.json", results)
    write_report([tmp_path / "run"], tmp_path / "page.html")
    assert not Gallery(tmp_path / "run", "../davis", "1").frames
    assert not Gallery(tmp_path / "run", "bear", "2").frames
    check(tmp_path / "run/run.json", lambda: Gallery(tmp_path / "run", "bear", "1"), 60)


def test_what_a_resumed_evaluation_reads(davis: Path, tmp_path: Path) -> None:
    endovis(tmp_path / "endovis")

    def resume(name: str, root: Path, split: str) -> None:
        evaluate(make_run(name, root, split, tmp_path / split, limit=1))

    for name, root, split, sequence in (
        ("davis2016", davis, "val", "bear"),
        ("endovis", tmp_path / "endovis", "valid", "seq1"),
    ):
        again = partial(resume, name, root, split)
        again()
        assert check(tmp_path / split / f"sequences/{sequence}.json", again, 60) > 20
    assert check(tmp_path / "val/run.json", partial(resume, "davis2016", davis, "val"), 40) > 20


def test_messages_name_file_field_and_remedy(davis: Path, tmp_path: Path) -> None:
    evaluate(make_run("davis2016", davis, "val", tmp_path / "run", limit=1))
    results = tmp_path / "run/results.json"
    results.write_text(results.read_text().replace('"J_mean": 0', '"J_mean": 7', 1))
    with pytest.raises(DatasetError, match=r"results\.json: scores\.J_mean is .*7.*less than or equal to 1"):
        read_results(results)
    entry = tmp_path / "run/sequences/bear.json"
    entry.write_text("{}")
    with pytest.raises(DatasetError, match=r"bear\.json: result is .*delete the file and run again"):
        evaluate(make_run("davis2016", davis, "val", tmp_path / "run", limit=1))
    (tmp_path / "run/run.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"run\.json: .*choose another folder"):
        evaluate(make_run("davis2016", davis, "val", tmp_path / "run", limit=1))
