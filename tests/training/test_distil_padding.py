"""Distillation of models that see wide pictures beside padding."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_distil
import tiny_sam
import torch
from tiny_distil import SIDE, STUDENT, TEACHER

from samvideo.pictures import normalised
from samvideo.specs import NANO, PictureRule
from samvideo.tensors import Features, MaskCandidates, PromptTensors
from samvideo.training import distil_prompts
from samvideo.training.distil import Inputs, Pair, Plan, Steps
from samvideo.training.images import Augmentation, covered, padded
from samvideo.windows import window_spec


def test_places_are_drawn_in_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[PromptTensors] = []

    def ask(model: object, features: Features, prompts: PromptTensors, side: int) -> MaskCandidates:
        asked.append(prompts)
        logits = -torch.ones(len(prompts.xy), 1, 16, 16)
        logits[:, :, :4] = 1
        rows = len(logits)
        return MaskCandidates(logits, torch.ones(rows, 1), torch.zeros(rows, 1, 0), torch.ones(rows))

    monkeypatch.setattr(distil_prompts, "ask", ask)
    features = Features(torch.zeros(200, 1, 1, 1), ())
    shares = torch.tensor([[1.0, 0.25], [0.5, 1.0]])
    objects = distil_prompts.find_objects(tiny_sam.tiny_model(), features, 64, shares)
    wide, tall = asked[0].xy[:100, 0], asked[0].xy[100:, 0]
    assert 8 < wide[:, 1].max() < 16
    assert 48 < wide[:, 0].max() < 64
    assert 24 < tall[:, 0].max() < 32
    assert objects.good[:100].max() == 0, "all of the picture is no object"
    assert objects.good[100:].min() == 1


def test_padding_is_the_mean_however_pictures_are_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_distil.shrink(monkeypatch)
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((36, 80, 3), 200, np.uint8))
    plan = Plan(batch=2, augmentation=Augmentation(noise=1, plain=0))
    pair = Pair(Inputs(STUDENT, f"{TEACHER}=random", tmp_path, workers=0), plan)
    spec = pair.student.spec = replace(pair.student.spec, picture=PictureRule("pad"))
    shares = covered(np.zeros((36, 80, 3), np.uint8), spec, SIDE)
    height = round(36 / 80 * SIDE)
    assert shares.tolist() == [1, height / SIDE]
    steps = Steps(pair, pair.examples(pair.found.train), 0, 1)
    batch = next(steps._load(0))
    lesson = steps._lesson(0, batch)
    assert torch.equal(lesson.covered, shares.expand(2, 2))
    seen = normalised(lesson.pictures, spec)
    assert seen[:, :, height:].abs().max() == 0
    assert seen[:, :, :height].std(dim=(2, 3)).min() > 0


def test_pictures_that_are_stretched_stay_as_they_are() -> None:
    pictures = torch.rand(2, 3, 16, 16)
    shares = covered(np.zeros((36, 80, 3), np.uint8), window_spec(NANO), 16).expand(2, 2)
    assert torch.equal(padded(pictures, shares, NANO.mean), pictures)
