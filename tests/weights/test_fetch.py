"""Downloads against a local server: good, cut off and resumed, wrong, missing, full disk, two at once."""

import errno
import hashlib
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from weights_server import CONTENT, Server, checkpoint_file, serve

from samvideo.errors import ConfigError, WeightsError
from samvideo.weights import fetch as fetching
from samvideo.weights import transfer
from samvideo.weights.catalog import Checkpoint, checkpoint
from samvideo.weights.contents import SAM2_PARTS
from samvideo.weights.fetch import cached_path, fetch, verify


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as state:
        yield state


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMVIDEO_HOME", str(tmp_path))
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: None)
    return tmp_path


@pytest.fixture
def row(server: Server) -> Checkpoint:
    return Checkpoint("model", server.address, 1, "Apache-2.0", "somebody/model")


def test_a_good_file_is_fetched_once_and_recorded(server: Server, row: Checkpoint) -> None:
    seen: list[tuple[int, int | None]] = []
    path = fetch(row, progress=lambda have, expected: seen.append((have, expected)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert fetch(row) == path
    assert len(server.ranges) == 1
    assert not path.with_name("model.pt.part").exists()


def test_a_bad_file_in_the_cache_is_told_and_fetched_again(
    row: Checkpoint, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    path = fetch(row)
    path.write_bytes(CONTENT[:-1] + b"x")
    assert fetch(row).read_bytes() == CONTENT
    assert "has changed since" in caplog.text
    path.write_text("<html>")
    path.with_name(path.name + ".json").unlink()  # as an earlier version might have left it
    assert fetch(row).read_bytes() == CONTENT
    assert "is a web page instead of a checkpoint: get it again" in caplog.text
    assert len(server.ranges) == 3


def test_damage_without_a_trace_is_found_on_demand(row: Checkpoint, server: Server) -> None:
    path = fetch(row)
    stat = path.stat()
    path.write_bytes(CONTENT[:-1] + b"x")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert fetch(row).read_bytes() != CONTENT
    assert fetch(row, recheck=True).read_bytes() == CONTENT


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read in full to be hashed."""
    files: list[Path] = []
    checked_sha256 = fetching._checked_sha256

    def counted(row: Checkpoint, path: Path) -> str:
        files.append(path)
        return checked_sha256(row, path)

    monkeypatch.setattr(fetching, "_checked_sha256", counted)
    return files


def test_a_file_is_hashed_once_and_later_only_on_demand(row: Checkpoint, hashed: list[Path]) -> None:
    both = replace(
        row,
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        git_blob=hashlib.sha1(f"blob {len(CONTENT)}\0".encode() + CONTENT).hexdigest(),
    )
    fetch(both)
    assert len(hashed) == 1
    for _ in range(3):
        fetch(both)
    assert len(hashed) == 1
    verify(both)
    assert len(hashed) == 2


def test_a_file_from_elsewhere_is_hashed_once(row: Checkpoint, hashed: list[Path]) -> None:
    path = cached_path(row)
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    path.with_name(path.name + ".json").write_text("[]")  # damaged
    for _ in range(3):
        fetch(row)
    assert len(hashed) == 1


def test_another_time_size_or_published_checksum_means_hashing_again(row: Checkpoint, hashed: list[Path]) -> None:
    path = fetch(row)
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    fetch(row)
    assert len(hashed) == 2
    with pytest.raises(WeightsError, match="is not the published file"):
        verify(replace(row, sha256="0" * 64))
    assert len(hashed) == 3
    stat = path.stat()
    path.write_bytes(CONTENT + b"x")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    for _ in range(2):  # what failed is not trusted the next time
        with pytest.raises(WeightsError, match="has changed since"):
            verify(row)


def test_a_cut_download_is_resumed(server: Server, row: Checkpoint) -> None:
    server.cut_after = [300_000, 200_000]
    assert fetch(row).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=500000-"]


def test_a_server_that_cannot_resume_starts_again(server: Server, row: Checkpoint) -> None:
    server.cut_after, server.resumable = [300_000], False
    assert fetch(row).read_bytes() == CONTENT


def test_a_download_that_stays_cut_is_kept_for_the_next_try(server: Server, row: Checkpoint) -> None:
    server.cut_after = [100_000] * 4
    with pytest.raises(WeightsError, match="after 400000 bytes"):
        fetch(row)
    assert not cached_path(row).exists()
    assert fetch(row).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=400000-"


def test_a_whole_part_is_not_downloaded_again(
    server: Server, row: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(transfer.Transfer, "finish", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fetch(row)
    assert fetch(row).read_bytes() == CONTENT
    assert len(server.ranges) == 1


def test_a_stale_part_longer_than_the_file_is_dropped(row: Checkpoint, home: Path) -> None:
    (home / "weights").mkdir()
    (home / "weights" / "model.pt.part").write_bytes(CONTENT * 2)
    assert fetch(row).read_bytes() == CONTENT


def refused(row: Checkpoint, message: str) -> None:
    """Check that the file is not fetched, and that nothing is left that could be taken for good."""
    for _ in range(2):
        with pytest.raises(WeightsError, match=message):
            fetch(row)
    path = cached_path(row)
    assert [file.name for file in path.parent.iterdir()] == [path.name + ".lock"]


def damaged() -> bytes:
    return CONTENT[:500_000] + bytes([CONTENT[500_000] ^ 1]) + CONTENT[500_001:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n<!DOCTYPE html><html>Log in to the hotel network", "gave a web page instead of the file: log in to"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "gave a Git LFS pointer"),
        (b"\x1f\x8b" + CONTENT, "gave something else, which begins with"),
        (b"", "the answer was empty"),
        (CONTENT[:-100], "is cut off or damaged"),
        (damaged(), "model/data/0 is damaged"),
        (checkpoint_file(SAM2_PARTS[1:]), r"not a checkpoint of this model: it has no parameter image_encoder\."),
        (CONTENT * 3, "3,1.* bytes: at most 2,500,000 expected"),
    ],
)
def test_what_is_not_the_file_is_never_cached(
    content: bytes, message: str, server: Server, row: Checkpoint
) -> None:
    server.content = content
    refused(row, message)


def test_compressed_answers_are_refused(server: Server, row: Checkpoint) -> None:
    server.headers["Content-Encoding"] = "gzip"
    refused(row, "in the encoding gzip")


def test_an_endless_answer_is_stopped(server: Server, row: Checkpoint) -> None:
    server.content, server.length = CONTENT + bytes(20_000_000), False
    refused(row, "does not end: over 2,500,000 bytes")


def test_half_a_file_without_length_is_not_taken_for_the_whole(server: Server, row: Checkpoint) -> None:
    server.length, server.cut_after = False, [500_000] * 8
    refused(row, "did not send the length, and .* is cut off")
    assert fetch(row).read_bytes() == CONTENT


def test_another_part_than_asked_for_is_not_joined(server: Server, row: Checkpoint) -> None:
    server.cut_after, server.shift = [300_000], -300_000
    assert fetch(row).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", None]


@pytest.mark.parametrize("conditional", [True, False])
def test_a_file_that_changed_between_two_tries_is_downloaded_again(
    conditional: bool, server: Server, row: Checkpoint
) -> None:
    server.cut_after, server.headers = [200_000] * 4, {"ETag": '"1"', "Last-Modified": "now"}
    with pytest.raises(WeightsError, match="They are kept"):
        fetch(row)
    assert server.asked[1]["If-Range"] == '"1"'
    server.content = checkpoint_file((*SAM2_PARTS, "more."))
    server.headers["ETag"] = '"2"' if conditional else 'W/"2"'
    assert fetch(row).read_bytes() == server.content


def test_a_file_of_another_length_is_downloaded_again(server: Server, row: Checkpoint) -> None:
    server.cut_after = [200_000] * 4
    with pytest.raises(WeightsError, match="They are kept"):
        fetch(row)
    server.content = checkpoint_file((*SAM2_PARTS, "more."))
    assert fetch(row).read_bytes() == server.content


def test_stalled_and_endless_waits_end(server: Server, row: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "SLOWEST", 1 << 60)
    monkeypatch.setattr(transfer, "WINDOW", 1e-9)
    with pytest.raises(WeightsError, match="the connection stalled"):
        fetch(row)
    monkeypatch.setattr(transfer, "LONGEST", 0.0)
    with pytest.raises(WeightsError, match="bytes are kept: repeat the command"):
        fetch(row)


def test_published_checksums(row: Checkpoint) -> None:
    blob = hashlib.sha1(f"blob {len(CONTENT)}\0".encode() + CONTENT).hexdigest()
    good = replace(row, sha256=hashlib.sha256(CONTENT).hexdigest(), git_blob=blob)
    verify_path = fetch(good)
    verify(good)
    verify_path.unlink()
    for wrong in (replace(row, sha256="0" * 64), replace(row, git_blob="0" * 40)):
        with pytest.raises(WeightsError, match="is not the published file"):
            fetch(wrong)
        assert not cached_path(wrong).exists()
        assert not cached_path(wrong).with_name("model.pt.part").exists()


def test_not_found(server: Server, row: Checkpoint) -> None:
    server.status = 404
    with pytest.raises(WeightsError, match="answered 404"):
        fetch(row)
    assert len(server.ranges) == 1


def test_a_busy_server_is_asked_again(server: Server, row: Checkpoint) -> None:
    server.status = 503
    with pytest.raises(WeightsError, match="503"):
        fetch(row)
    assert len(server.ranges) == 4


def test_offline(row: Checkpoint) -> None:
    with pytest.raises(WeightsError, match="no connection to"):
        fetch(replace(row, url="http://127.0.0.1:9/model.pt"))


def test_full_disk(row: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*arguments: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(transfer.Transfer, "attempt", no_space)
    with pytest.raises(WeightsError, match="No space left on device; free about 1 MB"):
        fetch(row)
    assert not cached_path(row).exists()


def _fetch_in_child(row: Checkpoint, results: "multiprocessing.Queue[int]") -> None:
    results.put(len(fetch(row).read_bytes()))


def test_two_processes_share_one_download(server: Server, row: Checkpoint) -> None:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[int] = context.Queue()
    children = [context.Process(target=_fetch_in_child, args=(row, results)) for _ in range(2)]
    for child in children:
        child.start()
    assert [results.get(timeout=60) for _ in children] == [len(CONTENT)] * 2
    for child in children:
        child.join()
    assert len(server.ranges) == 1


def test_catalog() -> None:
    assert checkpoint("edgetam").git_blob == "abd54d22bbd22ba3e53cf59a307e59e0f3701be6"
    assert checkpoint("efficienttam-s-512").file_name == "efficienttam_s_512x512.pt"
    assert checkpoint("sam2.1-base-plus").file_name == "sam2.1_hiera_base_plus.pt"
    with pytest.raises(ConfigError, match="did you mean 'edgetam'"):
        checkpoint("edgtam")
    with pytest.raises(WeightsError, match="by hand"):
        fetch(checkpoint("surgical-sam2-s"))


def test_a_read_only_cache_is_read(row: Checkpoint, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch(row)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(fetching, "FileLock", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    assert fetch(row) == path
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(Path, "write_text", refuse)
    path.with_name(path.name + ".json").unlink()  # another program left the file there
    assert fetch(row, recheck=True) == path
    assert len(server.ranges) == 1


@pytest.mark.parametrize("place", ["http://[::1/x", f"http://{'a' * 70}.org/x", "http://localhost:port/x"])
def test_a_redirect_that_is_no_address(server: Server, row: Checkpoint, place: str) -> None:
    server.status, server.headers = 302, {"Location": place}
    with pytest.raises(WeightsError, match=r"is not valid \(.+\); download it by hand"):
        fetch(row)
