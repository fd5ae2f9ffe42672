"""Learning from runs and from videos: their frames and masks, and what of them is told apart."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from runs_made import write_run
from tiny_sam import tiny_model

from samvideo.errors import ConfigError, DatasetError, VideoError
from samvideo.evaluation.datasets import open_dataset
from samvideo.io.masks import write_index_png
from samvideo.io.source import open_video
from samvideo.training.clip_sampler import ClipRule, ClipSampler, data_digest
from samvideo.training.runs import Runs
from samvideo.types import FrameResult, VideoInfo
from tests.clips import write_clip

RULE = ClipRule(length=3, objects=2)
SIZE = (96, 80)


def tracked(root: Path, *, renumbered: bool = False, corrected: bool = False) -> tuple[Path, Path]:
    """A video of a disc that moves, and the run that followed it, which was prompted on frames 0 and 4."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    masks = [(x - 24 - 4 * t) ** 2 + (y - 40) ** 2 < 200 for t in range(8)]
    pictures = [np.where(mask[..., None], (220, 40, 40), (70, 70, 70)).astype(np.uint8) for mask in masks]
    run = root / "runs/first"
    run.mkdir(parents=True)
    video = write_clip(root / "op.mp4", pictures)
    results = [
        FrameResult(
            t,
            t / 25,
            (1,),
            (mask & (y < 44) if corrected else mask)[None],
            np.ones(1, np.float32),
            np.ones(1, bool),
            labels={1: "gall"},
        )
        for t, mask in enumerate(masks)
    ]
    info = VideoInfo("op", SIZE, Fraction(25), 8, renumbered=renumbered)
    write_run(run, results, ("rle",), lambda t: pictures[t], info, labelled=True)
    prompts = ["box=10,26,38,54#1:gall", "points=40,40@0.17s#1"]
    (run / "run.json").write_text(json.dumps({"settings": {"prompts": prompts}, "status": "complete"}))
    return run, video


def test_clips_of_a_run_begin_where_it_was_prompted(tmp_path: Path) -> None:
    run, video = tracked(tmp_path)
    for root, place in ((run, video), (run.parent, tmp_path)):
        clips = ClipSampler(Runs(root, place), ("first",), tiny_model())
        sequence, known = clips.sequences[0]
        assert sequence.labels == {1: "gall"}
        assert sequence.prompted == (0, 4)
        assert known == [*range(8)]
        frames, masks = clips.frames(sequence, [6, 2]), clips.masks(sequence, [6, 2])[0]
        inside = (frames[:, 0] * masks).sum((1, 2)) / masks.sum((1, 2))
        outside = (frames[:, 0] * (1 - masks)).sum((1, 2)) / (1 - masks).sum((1, 2))
        assert (inside - outside).min() > 1.5, "masks lie on the disc of their frame"
        assert clips.draw(RULE, np.random.default_rng(0))[0].shape == (3, 3, 64, 64)


def test_runs_that_teach_nothing_are_told(tmp_path: Path) -> None:
    run, video = tracked(tmp_path)
    with pytest.raises(ConfigError, match="--video is missing"):
        Runs(run, None)
    with pytest.raises(DatasetError, match="without --strip-source"):
        Runs(*tracked(tmp_path / "stripped", renumbered=True)).sequence("first")
    with pytest.raises(DatasetError, match="is not a run"):
        Runs(tmp_path, video)
    video.rename(tmp_path / "another.mp4")
    with pytest.raises(DatasetError, match="0 videos named 'op'"):
        Runs(run, tmp_path).sequence("first")
    with pytest.raises(VideoError, match="the video that was tracked"):
        Runs(run, write_clip(video, 8)).sequence("first")
    for path in run.glob("tracks.json*"):
        path.unlink()
    with pytest.raises(VideoError, match="--save rle"):
        Runs(run, video).sequence("first")


def test_frames_are_read_from_videos(tmp_path: Path) -> None:
    _, video = tracked(tmp_path)
    for part in ("videos", "Annotations/op"):
        (tmp_path / part).mkdir(parents=True)
    video = video.rename(tmp_path / "videos/op.mp4")
    for t in (2, 7):
        write_index_png(tmp_path / f"Annotations/op/{t:05}.png", np.eye(*SIZE[::-1], dtype=np.uint8))
    dataset = open_dataset("folder", tmp_path)
    frames = (clips := ClipSampler(dataset, ("op",), tiny_model())).frames(clips.sequences[0][0], [7, 2])
    with open_video(video) as opened:
        expected = [clips.model.preprocess(frame.rgb) for frame in opened if frame.index in (2, 7)]
    assert torch.equal(frames, torch.cat(expected[::-1]))
    write_index_png(tmp_path / "Annotations/op/00009.png", np.eye(*SIZE[::-1], dtype=np.uint8))
    clips = ClipSampler(dataset, ("op",), tiny_model())
    with pytest.raises((DatasetError, VideoError), match="no frame 9"):
        clips.frames(clips.sequences[0][0], [2, 9])


def test_a_corrected_run_is_other_data(tmp_path: Path) -> None:
    folder, video = tracked(tmp_path)
    before = data_digest(Runs(folder, video), ["first"])
    assert data_digest(Runs(folder, video), ["first"]) == before
    prompts = {"settings": {"prompts": ["box=10,26,38,54#1:gall"]}, "status": "complete"}
    (folder / "run.json").write_text(json.dumps(prompts))
    assert data_digest(Runs(folder, video), ["first"]) != before, "clips begin at other frames"
    again = tracked(tmp_path / "again", corrected=True)[0]
    assert data_digest(Runs(again, video), ["first"]) != before, "masks"
