"""The learned prompter: which places answer for an object, `samvideo train prompter`, and loading what it wrote."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_sam import tiny_model
from training_data import save_all
from typer.testing import CliRunner

from samvideo.checkpoints import BUNDLED_FOLDER
from samvideo.cli.main import app
from samvideo.errors import ConfigError, WeightsError
from samvideo.prompters.base import suppress_masks
from samvideo.prompters.factory import load_prompter
from samvideo.prompters.learned import LearnedPrompter
from samvideo.prompters.objectness import ObjectnessHead, ObjectPlaces
from samvideo.segmenters.factory import load_segmenter
from samvideo.segmenters.image_model import ImageModelSegmenter
from samvideo.training import prompter
from samvideo.training.clips import ClipSampler
from samvideo.training.compose import ClipConfig
from samvideo.training.detection import DetectionConfig, assigned, detection_losses, overlaps
from samvideo.training.engine import Stage
from samvideo.training.library import Library
from samvideo.training.prompter import RECIPES, PrompterRecipe, object_boxes

TINY = PrompterRecipe((96, 64), 2 * 96**2, Stage(4, rate=3e-3), drawn=0)
BOXES = torch.tensor([[[5.0, 5, 19, 19], [0, 0, 96, 80], [0, 0, 0, 0]]])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_all(tmp_path_factory.mktemp("data"))


def places(side: int = 96) -> ObjectPlaces:
    """Of an image, with boxes of one cell around each place."""
    centres, strides = [], []
    for stride in (8, 16):
        y, x = torch.meshgrid(*[torch.arange(side // stride)] * 2, indexing="ij")
        centres.append((torch.stack([x, y], -1).flatten(0, 1) + 0.5) * stride)
        strides.append(torch.full((len(centres[-1]),), stride))
    at, cells = torch.cat(centres), torch.cat(strides)
    boxes = torch.cat([at - cells[:, None] / 2, at + cells[:, None] / 2], 1)[None]
    return ObjectPlaces(torch.zeros(1, len(at)), boxes, at, cells)


def test_places_around_the_centre_answer_for_an_object() -> None:
    found = places()
    index = assigned(found, BOXES, DetectionConfig())[0]
    small, large = found.centres[index == 0].tolist(), found.centres[index == 1].tolist()
    assert small == [[12.0, 12.0]], "within the box, of the finer map alone"
    assert [56.0, 40.0] in large
    assert found.strides[index == 1].unique().tolist() == [8, 16], "what is of middle size is on both maps"
    assert (index == 2).sum() == 0
    nested = torch.cat([BOXES, torch.tensor([[[40.0, 32, 56, 48]]])], 1)
    again = assigned(found, nested, DetectionConfig())[0]
    assert set(again[found.strides == 8].tolist()) == {-1, 0, 1, 3}, "the smallest of several"
    assert again[(found.centres == torch.tensor([44.0, 36.0])).all(1)].item() == 3
    dot = assigned(found, torch.tensor([[[30.0, 30, 31, 31]]]), DetectionConfig())[0]
    assert (dot == 0).sum() == 1, "an object of less than a cell has a place"


def test_overlaps_of_pairs() -> None:
    one, others = torch.tensor([[0.0, 0, 2, 2]] * 3), torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [2, 2, 4, 4]])
    iou, generalised = overlaps(one, others)
    assert torch.allclose(iou, torch.tensor([1, 1 / 3, 0]))
    assert torch.allclose(generalised, torch.tensor([1, 1 / 3, -0.5]))


def test_sure_places_without_annotated_object_count_less() -> None:
    found = places()
    negative = int((assigned(found, BOXES, DetectionConfig())[0] < 0).nonzero()[0])
    pulls = []
    for logit in (0.5, 5.0):
        logits = torch.zeros_like(found.logits)
        logits[0, negative] = logit
        logits.requires_grad_()
        losses = detection_losses(found._replace(logits=logits), BOXES, DetectionConfig())
        losses["objectness"].backward()
        assert logits.grad is not None
        pulls.append(float(logits.grad[0, negative]))
    assert pulls[0] > 5 * pulls[1] > 0
    nothing = detection_losses(found, torch.zeros(1, 1, 4), DetectionConfig())
    assert float(nothing["boxes"]) == 0
    assert all(torch.isfinite(value) for value in nothing.values())


def test_scenes_show_all_objects(data: Path) -> None:
    sampler = ClipSampler(Library.read([data / "objects"]), ClipConfig(), torch.Generator().manual_seed(1))
    frames, masks = sampler.scenes(6, 96)
    assert frames.shape == (6, 3, 96, 96)
    assert masks.shape == (6, 2, 96, 96)
    both = (masks.mean((2, 3)) > 0).all(1)
    assert both.sum() >= 3
    assert (masks.sum(1) <= 1).all()
    boxes = object_boxes(masks)
    for row, slot in np.ndindex(6, 2):
        y, x = masks[row, slot].nonzero(as_tuple=True)
        expected = [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1] if len(x) > 3 else [0] * 4
        assert boxes[row, slot].tolist() == expected


def test_a_head_fits_its_features_and_stays_small() -> None:
    segmenter = load_segmenter()
    assert isinstance(segmenter, ImageModelSegmenter)
    head = ObjectnessHead.of(segmenter.model).eval()
    assert sum(value.numel() for value in head.parameters()) < 450_000
    with torch.inference_mode():
        found = head(segmenter.model.encode(torch.zeros(2, 3, 80, 112)))
    assert found.boxes.shape == (2, 10 * 14 + 5 * 7, 4)
    assert (found.boxes[..., 2:] > found.boxes[..., :2]).all()


def test_masks_that_are_alike_are_dropped() -> None:
    masks = np.zeros((4, 30, 40), bool)
    masks[0, :10], masks[1, :10], masks[2, 5:20] = True, True, True
    assert suppress_masks(list(masks), np.array([0.5, 0.9, 0.7, 0.1]), 0.8).tolist() == [1, 2, 3]
    assert suppress_masks([], np.zeros(0), 0.8).tolist() == []


def train(out: Path, *options: str | Path, code: int = 0) -> str:
    arguments = ["train", "prompter", "-o", str(out), "--device", "cpu", "--threads", "1", *map(str, options)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    return done.output


def test_a_training_is_interrupted_resumed_and_used(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECIPES, "cpu", TINY)
    options = ("--objects", data / "objects", "--videos", data / "davis")
    said = train(tmp_path / "whole/p.safetensors", *options)
    assert "prompter of nano, seed 1, on cpu; data: open/shapes 8, davis 1" in said
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {"p.safetensors", "p.log", "p.recipe.json"}

    losses = prompter._Steps.losses

    def interrupted(self: prompter._Steps, step: int) -> object:
        if step == 1:
            signal.raise_signal(signal.SIGINT)
        return losses(self, step)

    out = tmp_path / "parts/p.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(prompter._Steps, "losses", interrupted)
        assert "the same command resumes it" in train(out, *options, code=130)
    assert "resumed after step 2" in train(out, *options)
    assert out.read_bytes() == (tmp_path / "whole/p.safetensors").read_bytes()
    assert "is finished" in train(out, *options), "once more does no harm"
    assert "is of another recipe" in train(out, *options, "--steps", "5", code=2)
    assert "is of another recipe" in train(out, *options[:2], code=2), "without the videos"

    segmenter = load_segmenter()
    found = load_prompter(f"learned={out}", segmenter)
    assert isinstance(found, LearnedPrompter)
    kept = found._head.state_dict()
    assert all(torch.equal(kept[key], value.float()) for key, value in load_file(out).items())
    with pytest.raises(WeightsError, match="features of nano, not of tiny"):
        load_prompter(f"learned={out}", ImageModelSegmenter(tiny_model()))


def test_a_head_learns_where_objects_are(data: Path, tmp_path: Path) -> None:
    library = Library.read([data / "objects"])
    model = prompter._model("nano", "cpu")
    recipe = replace(TINY, sides=(96,), pixels=4 * 96**2, fit=Stage(50, rate=4e-3, average=0.9))
    steps = prompter._Steps(model, library, recipe)
    first = {name: float(value) for name, value in steps.losses(1000).items()}
    prompter.fit(steps.head, steps.losses, recipe.fit, tmp_path / "state", print)
    last = {name: float(value) for name, value in steps.losses(1000).items()}
    assert last["boxes"] < 0.7 * first["boxes"]
    assert last["IoU"] > first["IoU"] + 0.1


REFUSED = [
    ((), 2, "no data"),
    (("--objects", "DATA/objects", "--data", "all"), 2, "'all'"),
    (("--objects", "DATA/absent"), 3, "no folder"),
    (("--objects", "DATA/objects", "--model", "nano=absent.pt"), 4, "no file absent.pt"),
    (("--objects", "DATA/objects", "--model", "grabcut"), 2, "which grabcut is not"),
    (("--objects", "DATA/objects", "--model", "nonsense"), 2, "nonsense"),
]


@pytest.mark.parametrize(("options", "code", "said"), REFUSED, ids=[row[2] for row in REFUSED])
def test_what_is_refused_leaves_nothing(
    options: tuple[str, ...], code: int, said: str, data: Path, tmp_path: Path
) -> None:
    given = [option.replace("DATA", str(data)) for option in options]
    assert said in train(tmp_path / "out/p.safetensors", *given, code=code)
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter, file = load_segmenter(), tmp_path / "p.safetensors"
    with pytest.raises(WeightsError, match=r"no file|No such|absent"):
        load_prompter(f"learned={tmp_path / 'absent.safetensors'}", segmenter)
    save_file({"x": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match="does not fit the features of nano"):
        load_prompter(f"learned={file}", segmenter)
    save_file({"x": torch.zeros(1)}, file, {"recipe": json.dumps({"format": "x"})})
    with pytest.raises(WeightsError, match="model is missing"):
        load_prompter(f"learned={file}", segmenter)
    with pytest.raises(WeightsError, match="train prompter` expected"):
        load_prompter(f"learned={BUNDLED_FOLDER / 'nano.safetensors'}", segmenter)
    with pytest.raises(ConfigError, match="train prompter --model tiny"):
        load_prompter("learned", ImageModelSegmenter(tiny_model()))
    with pytest.raises(ConfigError, match="grid has no weights"):
        load_prompter(f"grid={file}", segmenter)
    monkeypatch.setattr("samvideo.prompters.learned.BUNDLED_FOLDER", tmp_path)
    with pytest.raises(ConfigError, match="no learned prompter for nano"):
        load_prompter("learned", segmenter)
