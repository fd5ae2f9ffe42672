"""`samvideo finetune`: clips, the losses of a clip, what learns, resuming, and loading the result."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiny_sam
import torch
from safetensors.torch import load_file
from tiny_sam import tiny_model
from tiny_tune import NAMES, write_shapes
from typer.testing import CliRunner

from samvideo.checkpoints import load
from samvideo.cli.main import app
from samvideo.errors import ConfigError, DatasetError
from samvideo.evaluation.datasets import open_dataset
from samvideo.evaluation.datasets.base import Dataset
from samvideo.io.masks import write_index_png
from samvideo.models import VideoModel
from samvideo.state_dict import load_state
from samvideo.training import finetune
from samvideo.training.candidates import MaskWeights
from samvideo.training.clip_propagation import PromptRule, clip_losses, propagated
from samvideo.training.clip_sampler import ClipRule, ClipSampler, _walk
from samvideo.training.engine import Stage, fit
from samvideo.training.finetune import FinetuneRecipe, validate
from samvideo.training.parts import choose_parts, merge_parts
from samvideo.weights.read import read_state

WEIGHTS = MaskWeights(squared=False)
RULE = ClipRule(length=3, objects=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("clips"))


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "load", lambda name, weights: tiny_model())


def sampler(data: Path, model: VideoModel, frames: tuple[int, int] | None = None) -> ClipSampler:
    return ClipSampler(open_dataset("folder", data), NAMES, model, frames)


def test_clips_show_their_objects_on_the_first_frame(data: Path) -> None:
    clips = sampler(data, tiny_model())
    frames, masks = clips.draw(RULE, np.random.default_rng(0))
    again = clips.draw(RULE, np.random.default_rng(0))
    assert frames.shape == (3, 3, 64, 64)
    assert masks.shape == (2, 3, 64, 64)
    assert masks[:, 0].flatten(1).any(1).all()
    assert torch.equal(frames, again[0])
    assert torch.equal(masks, again[1])
    colour = (frames * masks[:, :, None]).sum((3, 4)) / masks.sum((2, 3))[..., None]
    assert (colour.amax(2) - colour.amin(2)).min() > 1, "masks lie on their objects, mirrored or not"
    rng = np.random.default_rng(1)
    walks = [_walk([0, 5, 10, 15], (), ClipRule(length=8, step=2), rng) for _ in range(40)]
    assert {index for walk in walks for index in walk} == {0, 5, 10, 15}
    assert max(abs(a - b) for walk in walks for a, b in pairwise(walk)) == 10
    assert {_walk([0, 5, 10], (5, 7), RULE, rng)[0] for _ in range(9)} == {5}


def test_clips_that_cannot_be_drawn(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetError, match="1 annotated frames from 2 to 2: two expected"):
        sampler(data, tiny_model(), (2, 3))
    monkeypatch.setattr("samvideo.training.clip_sampler.LEAST", 10_000)
    with pytest.raises(DatasetError, match="show no object"):
        sampler(data, tiny_model()).draw(RULE, np.random.default_rng(0))


@pytest.mark.parametrize("memory", ["plain", "pooled", "perceiver"])
def test_gradients_reach_every_part_through_memory(data: Path, memory: str) -> None:
    model = tiny_model(memory)
    frames, masks = sampler(data, model).draw(RULE, np.random.default_rng(0))
    found = {}
    for saving in (False, True):
        model.zero_grad()
        torch.manual_seed(5)
        losses = clip_losses(model, frames, masks, PromptRule(0, 0, 2, 1, 1), WEIGHTS, saving=saving)
        assert set(losses) == {"focal", "dice", "quality", "iou", "presence"}
        sum(value for value in losses.values() if value.requires_grad).backward()  # type: ignore[union-attr]
        found[saving] = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    for part in (
        "encoder.trunk.patch_embed",
        "memory.encoder.out_proj",
        "memory.attention",
        "pointers.obj_ptr_proj",
    ):
        assert any(name.startswith(part) and bool(grad.any()) for name, grad in found[False].items()), part
    for name, grad in found[False].items():
        assert torch.allclose(grad, found[True][name], rtol=1e-3, atol=1e-5), name


def test_an_encoder_that_does_not_learn_runs_once_a_frame(data: Path) -> None:
    model, calls = tiny_model(), []
    model.encoder.requires_grad_(False)
    frames, masks = sampler(data, model).draw(RULE, np.random.default_rng(0))
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    losses = clip_losses(model, frames, masks, PromptRule(0, 0, 2, 1, 1), WEIGHTS, saving=True)
    sum(value for value in losses.values() if value.requires_grad).backward()  # type: ignore[union-attr]
    assert len(calls) == len(frames)


def test_a_mask_is_no_question_and_absence_teaches_presence_alone(data: Path) -> None:
    model = tiny_model()
    frames, masks = sampler(data, model).draw(RULE, np.random.default_rng(0))
    masks[:, 1:] = 0
    torch.manual_seed(0)
    losses = clip_losses(model, frames, masks, PromptRule(mask=1, frames=1), WEIGHTS)
    assert losses["focal"] == losses["dice"] == losses["quality"] == 0
    assert losses["presence"] > 5, "the tiny model is sure to see every object"


def test_propagation_is_what_a_tracker_does(data: Path) -> None:
    model = tiny_model()
    clips = sampler(data, model)
    sequence, known = clips.sequences[0]
    frames, masks = clips.frames(sequence, known), clips.masks(sequence, known)
    found = list(propagated(model, frames, masks[:, 0]))
    assert [tuple(x.shape) for x in found] == [(2, 64, 64)] * 5
    scores = validate(clips, 6)
    assert set(scores) == {"J&F", "J"}
    assert 0 <= scores["J"] <= 1


def test_the_bundled_model_learns_to_track(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "load", lambda name, weights: load(name, weights=weights, input_size=(96, 80)))
    options = ("--frames", "0:4", "--measure", "4:6", "--sequences", "a", "--validate", "a", "--length", "9")
    given = arguments(tmp_path / "run", data, *options)
    given[1] = "nano"
    del given[given.index("--weights") : given.index("--weights") + 2]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert "validation after step 2: J&F" in done.output
    model = load("nano", weights=tmp_path / "run/model.safetensors")
    assert learned(load("nano").state_dict(), model) == {"memory", "decoder"}


def learned(before: Mapping[str, torch.Tensor], model: VideoModel) -> set[str]:
    return {
        name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("decoder,memory", {"prompts", "decoder", "memory", "pointers"}),
        ("encoder", {"encoder"}),
        ("lora:2", {"encoder", "memory", "decoder", "pointers"}),
    ],
)
def test_only_what_is_chosen_learns(data: Path, tmp_path: Path, text: str, expected: set[str]) -> None:
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    choose_parts(model, text)
    recipe = FinetuneRecipe(clip=RULE, prompts=PromptRule(0, 0, 1, 1, 1), saving=False)
    fit(model, finetune._gradients(model, sampler(data, model), recipe), Stage(2, rate=1e-2), tmp_path / "s", print)
    merge_parts(model)
    assert set(model.state_dict()) == set(before)
    assert learned(before, model) == expected
    if text.startswith("lora"):
        change = model.encoder.trunk.blocks[0].attn.qkv.weight - before["encoder.trunk.blocks.0.attn.qkv.weight"]
        assert torch.linalg.matrix_rank(change.detach(), atol=1e-5) == 2


@pytest.mark.parametrize("text", ["", "lora", "lora:0", "decoder,nose", "lora:2,lora:3"])
def test_names_of_parts_are_checked(text: str) -> None:
    with pytest.raises(ConfigError, match="--train takes all"):
        choose_parts(tiny_model(), text)


def arguments(out: Path, data: Path, *options: str) -> list[str]:
    given = ["finetune", "edgetam", "--data", f"folder={data}", "-o", str(out), "--weights", "random"]
    return [*given, "--device", "cpu", "--threads", "1", "--steps", "3", "--length", "2", "--every", "2", *options]


def run(out: Path, data: Path, *options: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, arguments(out, data, *options))
    assert done.exit_code == code, done.output
    return done.output


def test_a_run_is_interrupted_resumed_and_loaded(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run(tmp_path / "whole", data, "--train", "decoder,memory,lora:2")
    assert "edgetam, seed 1, on cpu;" in said
    assert "on 2 sequences" in said
    assert "validated: c\n" in said
    assert said.count("validation before training: J&F 0.") == 1
    assert "validation after step 2: J&F 0." in said
    assert {path.name for path in (tmp_path / "whole").iterdir()} == {
        "model.safetensors",
        "model.log",
        "model.recipe.json",
    }
    losses = finetune.clip_losses

    def interrupted(*arguments: object, **options: object) -> object:
        signal.raise_signal(signal.SIGINT)
        return losses(*arguments, **options)  # type: ignore[arg-type]

    out = tmp_path / "parts"
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "clip_losses", interrupted)
        assert "after step 1: the same command resumes it" in run(
            out, data, "--train", "decoder,memory,lora:2", code=130
        )
    said = run(out, data, "--train", "decoder,memory,lora:2")
    assert "resumed after step 1" in said
    assert "before training" not in said
    file = out / "model.safetensors"
    assert file.read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert "whose train is 'decoder,memory,lora:2', now 'all'" in run(out, data, code=2)
    assert "sam_mask_decoder.iou_token.weight" in load_file(file)
    load_state(tiny_model(), read_state(file))


def test_a_run_without_validation_says_so(data: Path, tmp_path: Path) -> None:
    said = run(tmp_path / "run", data, "--sequences", "a", "--steps", "1")
    assert "no sequence is validated, nothing is measured: name one with --validate" in said
    assert "validation before" not in said
    assert "target model (the classifier of an object's pixels" in said


@pytest.mark.parametrize(("weights", "expected"), [(None, "published"), (Path("random"), "random")])
def test_the_record_says_where_the_weights_come_from(
    weights: Path | None, expected: str, data: Path, tmp_path: Path
) -> None:
    chosen = finetune.Sequences(lambda: open_dataset("folder", str(data)), NAMES)
    task = finetune.Task("edgetam", weights, chosen, FinetuneRecipe(), finetune.Resources())
    assert json.loads(task.record(chosen.opened()))["from"] == expected


def test_other_data_under_the_same_names_is_another_recipe(data: Path, tmp_path: Path) -> None:
    copy, out = tmp_path / "copy", tmp_path / "run"
    shutil.copytree(data, copy)
    run(out, data)
    assert "is finished" in run(out, copy), "wherever the data lie"
    assert "another recipe" in run(out, copy, "--void", "7", code=2)
    mask, picture = (copy / part / "a/00003.png" for part in ("Annotations", "JPEGImages"))
    before = picture.read_bytes()
    picture.write_bytes((copy / "JPEGImages/a/00004.png").read_bytes())
    assert "another recipe" in run(out, copy, code=2)
    picture.write_bytes(before)
    assert "is finished" in run(out, copy)
    write_index_png(mask, np.eye(80, 96, dtype=np.uint8))
    assert "another recipe" in run(out, copy, code=2)


def test_a_training_that_began_while_this_one_prepared_is_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, prepare = tmp_path / "run/model.recipe.json", finetune.Task.prepare

    def slow(task: finetune.Task, dataset: Dataset) -> tuple[VideoModel, ClipSampler]:
        record.parent.mkdir(exist_ok=True)
        record.write_text("of another process")
        return prepare(task, dataset)

    monkeypatch.setattr(finetune.Task, "prepare", slow)
    assert "another recipe" in run(tmp_path / "run", data, code=2)
    assert record.read_text() == "of another process"


KILLED = """
import os, signal, sys
from tiny_sam import tiny_model
from samvideo.cli.main import app
from samvideo.training import engine, finetune

engine.REPORT_SECONDS = -1.0
finetune.load = lambda name, weights: tiny_model()
losses, left = finetune.clip_losses, iter(range(2))

def killed(*arguments, **options):
    if next(left, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    return losses(*arguments, **options)

finetune.clip_losses = killed
app(sys.argv[1:])
"""
"""A fine-tuning that writes its state after every step, and is killed in the third."""


def test_a_killed_run_is_resumed_with_equal_weights(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    environment = os.environ | {"PYTHONPATH": str(Path(tiny_sam.__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments(out, data)], env=environment, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (out / "model.safetensors").exists()
    assert "resumed after step 2" in run(out, data)
    run(tmp_path / "whole", data)
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_sequences_without_an_object_to_measure_are_refused(data: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(data, tmp_path / "copy")
    write_index_png(copy / "Annotations/c/00000.png", np.zeros((80, 96), np.uint8))
    assert "shows no object, such as frame 0 of c: name other" in run(tmp_path / "run", copy, code=3)
    assert not (tmp_path / "run").exists()
    said = run(tmp_path / "run", copy, "--measure", "1:6", "--steps", "1", "--validate", "c,c")
    assert "validated: c\n" in said


BOTH = ("--sequences", "b", "--validate", "b")
REFUSED = [
    (("--data", "folder"), 2, "NAME=FOLDER"),
    (("--frames", "5:2"), 2, "FIRST:END"),
    (("--video", "op.mp4"), 2, "--video is for --data run=FOLDER"),
    (("--data", "run=runs", "--void", "3"), 2, "are for data sets, not for runs"),
    (("--rate", "inf"), 2, "--rate"),
    (("--sequences", "d"), 2, "no sequence 'd'"),
    (("--validate", "a,b,c"), 2, "leave one to learn from"),
    (("--train", "all,nose"), 2, "--train takes"),
    (("--sequences", "a", "--patience", "4"), 2, "--patience needs sequences to measure"),
    (("--sequences", "a", "--measure", "0:3"), 2, "--measure needs sequences to measure"),
    (("--sequences", "a,b", "--validate", "b"), 2, "'b' would be measured on frames that are learned from"),
    ((*BOTH, "--frames", "0:4", "--measure", "3:6"), 2, "frames without overlap"),
    ((*BOTH, "--frames", "0:3"), 2, "leave it out of --sequences"),
    (("--batch", "3", "--nproc", "2"), 2, "a batch of 3 is not shared evenly by 2 processes"),
    (("--train", "decoder,lora:2", "--cache", "features"), 2, "and --train decoder,lora:2 changes it"),
    (("--train", "memory", "--cache", os.devnull), 5, "is not a folder"),
]


@pytest.mark.parametrize(("options", "code", "said"), REFUSED, ids=[row[2] for row in REFUSED])
def test_what_is_refused_leaves_nothing(
    options: tuple[str, ...], code: int, said: str, data: Path, tmp_path: Path
) -> None:
    assert said in run(tmp_path / "run", data, *options, code=code)
    assert not (tmp_path / "run").exists()
