"""Distillation from a small seeded SAM."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from samvideo.errors import ConfigError
from samvideo.image_model import ImageModel
from samvideo.segmenters.image_model import ImageModelSegmenter
from samvideo.specs import IMAGE_SPECS, SAM_PICTURE
from samvideo.tensors import PromptTensors
from samvideo.training.losses import soft_iou
from samvideo.training.prompting import STRIDE, box_prompts, click_prompts, either
from samvideo.training.teacher import Teacher, TeacherConfig, load_teacher
from samvideo.types import Box, Points

SIDE = 64
TINY = replace(IMAGE_SPECS["efficientsam-ti"], input_wh=(128, 128), picture=replace(SAM_PICTURE, prompt_side=128))


@pytest.fixture(scope="module")
def model() -> ImageModel:
    torch.manual_seed(0)
    return ImageModel(TINY).eval()


@pytest.fixture
def lesson() -> tuple[Tensor, Tensor, PromptTensors, Tensor]:
    """Three pictures with their student's maps, a box and two clicks, and the truth at stride 4."""
    torch.manual_seed(1)
    truth = torch.zeros(3, SIDE // STRIDE, SIDE // STRIDE)
    truth[:, 4:12, 6:14] = 1
    is_box = torch.tensor([True, False, False])
    prompts = either(is_box, box_prompts(truth), click_prompts(truth))
    return torch.rand(3, 3, SIDE, SIDE), torch.randn(3, 256, 4, 4, requires_grad=True), prompts, truth


def test_it_answers_as_its_segmenter(
    model: ImageModel, lesson: tuple[Tensor, Tensor, PromptTensors, Tensor]
) -> None:
    frames, _, prompts, _ = lesson
    segmenter = ImageModelSegmenter(model)
    asked = [
        (PromptTensors(prompts.xy[:1], prompts.labels[:1]), Box(tuple((prompts.xy[0] + 0.0).flatten().tolist()))),
        (PromptTensors(prompts.xy[1:2, :1], prompts.labels[1:2, :1]), Points([tuple(prompts.xy[1, 0].tolist())])),
    ]
    for row, (tensors, prompt) in enumerate(asked):
        rgb = (frames[row].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        (found,) = segmenter.embed(rgb).segment([prompt], multimask=True)
        with torch.no_grad():
            _, logits = Teacher(model, TeacherConfig())._answer(
                frames[row : row + 1], tensors, torch.Size((SIDE, SIDE))
            )
        ious = [
            soft_iou(a[None], torch.tensor(b)[None].float())
            for a, b in zip(logits[0, 1:], found.masks_nhw, strict=True)
        ]
        assert min(ious) > 0.9
        assert 0 < found.masks_nhw.mean() < 1


def test_targets_lean_towards_what_it_answers(
    model: ImageModel, lesson: tuple[Tensor, Tensor, PromptTensors, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, coarse, prompts, truth = lesson
    is_box = torch.tensor([True, False, False])
    answer = Tensor()

    def answered(self: Teacher, frames: Tensor, asked: PromptTensors, size: object) -> tuple[Tensor, Tensor]:
        return torch.ones(len(frames), 256, 8, 8), answer[: len(frames)]

    monkeypatch.setattr(Teacher, "_answer", answered)
    teacher = Teacher(model, TeacherConfig(masks=0.4))
    sure, nothing = 20 * (2 * truth - 1), torch.full_like(truth, -20.0)
    for candidate, highest, iou in (
        (sure, 1, 1),
        (nothing, 1, 0),  # another object: the truth stays
        (sure / 40, 0.6 + 0.4 * torch.tensor(0.5).sigmoid().item(), 1),  # unsure
    ):
        answer = torch.stack([nothing, candidate], 1)
        target, parts = teacher.teach(frames, coarse, prompts, is_box, truth)
        assert target.max().item() == pytest.approx(highest)
        assert ((target > 0.5) == (truth > 0.5)).all()
        assert parts["teacher iou"].item() == iou


def test_features_are_matched_and_the_teacher_is_not_changed(
    model: ImageModel, lesson: tuple[Tensor, Tensor, PromptTensors, Tensor]
) -> None:
    frames, coarse, prompts, truth = lesson
    before = {key: value.clone() for key, value in model.state_dict().items()}
    teacher = Teacher(model, TeacherConfig())
    optimiser = torch.optim.Adam([coarse, *teacher.projection.parameters()], lr=0.05)
    distances = []
    for _ in range(8):
        optimiser.zero_grad()
        _, parts = teacher.teach(frames, coarse, prompts, torch.tensor([True, False, False]), truth)
        parts["teacher features"].backward()
        optimiser.step()
        distances.append(parts["teacher features"].item())
    assert distances[-1] < 0.5 * distances[0]
    assert not parts["teacher iou"].requires_grad
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_models_that_cannot_teach_are_told() -> None:
    with pytest.raises(ConfigError, match="squeezesam cannot teach"):
        load_teacher("squeezesam=random", "cpu")
    with pytest.raises(ConfigError, match="mobilsam"):
        load_teacher("mobilsam=random", "cpu")
