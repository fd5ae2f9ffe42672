"""Folders of `samvideo track` and of the page as a data set to learn from: their masks, and frames of the video."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from samvideo.errors import ConfigError, DatasetError, shown
from samvideo.evaluation.datasets.base import Dataset, ScoringRule, VideoSequence
from samvideo.evaluation.files import MaskSet
from samvideo.io.paired import RunVideo
from samvideo.io.schema import read_json
from samvideo.io.tracks import FrameRecord, TracksFile, labels_in, open_masks
from samvideo.moments import parse_moment
from samvideo.run_folder import RECORD

_MOMENT = re.compile(r"@([\d:.]+s?)(?:#|$)", re.ASCII)


@dataclass(frozen=True)
class _Settings:
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Run:
    """The part of `run.json` that is read here."""

    settings: _Settings


_SCHEMA = TypeAdapter(_Run)


class Runs(Dataset):
    """Runs with their videos; clips to learn from begin at frames with prompts, whose masks a person has seen.

    Args:
        root: the folder of a run, or of such folders.
        video: the video that was tracked, or the folder where videos have the names that the runs recorded.

    Raises:
        ConfigError: `video` is missing.
        DatasetError: there is no run.
    """

    name = "run"
    apart = True
    rule = ScoringRule("run: its own masks")

    def __init__(self, root: Path, video: Path | None) -> None:
        if video is None or not video.exists():
            given = "is missing" if video is None else f"{shown(str(video))} does not exist"
            raise ConfigError(f"--video {given}: give the video that was tracked, or the folder of several")
        single = (root / RECORD).is_file()
        self.folders = {path.parent.name: path.parent for path in sorted(root.glob("*/" + RECORD))}
        self.folders = {root.absolute().name: root} if single else self.folders
        if not self.folders:
            raise DatasetError(f"{root} is not a run, and holds none: the folder of `samvideo track` expected")
        super().__init__("all", self.folders)
        self._video = video
        self._records = cache(self._read)

    def _read(self, name: str) -> tuple[TracksFile, Mapping[int, FrameRecord]]:
        tracks = open_masks(self.folders[name])
        return tracks, {record.index: record for record in tracks}

    def sequence(self, name: str) -> VideoSequence:
        """List what a run holds; see `Dataset.sequence`.

        Raises:
            VideoError: its masks are missing or damaged, or the video is another one.
            DatasetError: it has no object, its frames are renumbered, or its video is not there.
        """
        tracks, records = self._records(name)
        seen = {number: record.index for record in reversed(list(records.values())) for number in record.visible()}
        if not seen:
            raise DatasetError(f"{self.folders[name]} has no object to learn from: track one, or leave the run out")
        if tracks.info.renumbered:
            raise DatasetError(
                f"the frames of {tracks.path} are counted from the first one tracked, and cannot be found in the "
                "video: track without --strip-source"
            )
        video = self._video_of(tracks)
        with RunVideo(tracks, str(video)) as paired:
            paired.frame_of(next(iter(records.values())))
        labels = labels_in(iter(records.values()), tracks.path)
        count = max(records) + 1
        return VideoSequence(
            name=name,
            frames=tuple(f"{index:05d}" for index in range(count)),
            images=(),
            masks=dict.fromkeys(records, tracks.path),
            labels={number: labels.get(number, str(number)) for number in sorted(seen)},
            first_seen=dict(sorted(seen.items())),
            scored={},
            saved=(),
            video=video,
            prompted=self._prompted(name, records),
        )

    def truth(self, sequence: VideoSequence, index: int) -> MaskSet:
        """The masks of a frame; see `Dataset.truth`."""
        tracks, records = self._records(sequence.name)
        result = records[index].result(tracks.info.size_wh)
        return MaskSet(apart=dict(zip(result.object_ids, result.masks, strict=True)))

    def _video_of(self, tracks: TracksFile) -> Path:
        """Where the video of a run is; DatasetError if it is not in the folder."""
        if self._video.is_file():
            return self._video
        named = tracks.info.name
        found = [path for path in self._video.iterdir() if named in (path.stem, path.name)]
        if len(found) != 1:
            raise DatasetError(
                f"{self._video} holds {len(found)} videos named {shown(named)}, which {tracks.path} is of: "
                "exactly one expected, or give the file itself"
            )
        return found[0]

    def _prompted(self, name: str, records: Mapping[int, FrameRecord]) -> tuple[int, ...]:
        """Frames of the run that have prompts; those of JSON files are not recorded."""
        run = read_json(self.folders[name] / RECORD, _SCHEMA, "the folder of `samvideo track`", DatasetError)
        return tuple(sorted({_frame(text, records) for text in run.settings.prompts} & records.keys()))


def _frame(prompt: str, records: Mapping[int, FrameRecord]) -> int:
    """The frame of a prompt, such as 12 of `box=40,60,200,220@12#2`; without a mark, the first one."""
    match = _MOMENT.search(prompt)
    moment = parse_moment(match[1] if match else None)
    if moment is None:
        return next(iter(records))
    if isinstance(moment, int):
        return moment
    return max((index for index, record in records.items() if record.seconds <= moment), default=-1)
