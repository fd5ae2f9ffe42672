"""Weights converted to and from the folders of Hugging Face transformers, which loads what is written."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from seeded import seeded_frame
from small_disk import small_disk
from typer.testing import CliRunner

from samvideo import interchange
from samvideo.checkpoints import load_any
from samvideo.cli.main import app
from samvideo.errors import SamVideoError
from samvideo.image_model import ImageModel
from samvideo.interchange import COUNTERPARTS, convert, hub_model, to_hub
from samvideo.io.files import LOCK
from samvideo.io.locks import folder_lock
from samvideo.specs import IMAGE_SPECS, SPECS
from samvideo.state_dict import load_state, spec_shapes
from samvideo.tensors import PromptTensors
from samvideo.weights import keys
from samvideo.weights.read import read_state

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("torchvision", reason="torchvision is not installed, which image processors need")

BOX = (112.0, 272.0, 448.0, 608.0)
IMAGE_MODELS = {"edgetam": "EdgeTamModel", "slimsam-77": "SamModel", "sam2.1-tiny": "Sam2Model"}


def command(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["weights", "convert", *map(str, arguments)])
    return done.exit_code, done.stderr


@pytest.fixture(
    scope="module", params=["edgetam", "slimsam-77", pytest.param("sam2.1-tiny", marks=pytest.mark.long)]
)
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """A model's name, its published checkpoint, and the folder that the command made of it.

    The checkpoint of SlimSAM is in half precision, as distillation writes it.
    """
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    model = load_any(name, weights="random")
    state = {model.published(own): value for own, value in model.state_dict().items()}
    state |= {key: torch.rand(shape) for key, shape in model.unused.items()}
    if name == "slimsam-77":
        state = {key: value.half() for key, value in state.items()}
    torch.save({"model": state} if name in SPECS else state, folder / "published.pt")
    code, said = command(folder / "published.pt", folder / "hub")
    assert (code, f"{name} in the layout 'transformers' written" in said) == (0, True), said
    return name, folder / "published.pt", folder / "hub"


def test_there_and_back_is_the_same_file(converted: tuple[str, Path, Path], tmp_path: Path) -> None:
    name, published, hub = converted
    code, said = command(hub, tmp_path / "back.pt", "--model", name, "--to", "published")
    assert code == 0, said
    before, after = read_state(published), read_state(tmp_path / "back.pt")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key].float(), after[key].float()) for key in before)
    plain = torch.load(tmp_path / "back.pt", weights_only=True)
    assert ("model" in plain) == (name in SPECS), "as the publishers' code wants it"


@torch.inference_mode()
def test_transformers_loads_it_and_finds_our_masks(converted: tuple[str, Path, Path]) -> None:
    name, published, hub = converted
    whole, report = transformers.AutoModel.from_pretrained(hub, output_loading_info=True)
    assert not any(report.values()), report
    assert type(whole) is type(hub_model(name))
    processor = transformers.AutoProcessor.from_pretrained(hub)
    theirs = getattr(transformers, IMAGE_MODELS[name]).from_pretrained(hub).eval()
    ours = load_any(name, weights=published)
    assert isinstance(ours, ImageModel)

    frame = seeded_frame(0, 1024)
    inputs = processor(images=frame, input_boxes=[[list(BOX)]], return_tensors="pt")
    masks = theirs(**inputs, multimask_output=True).pred_masks[0]
    features = ours.encode(ours.preprocess(frame))
    corners = PromptTensors(torch.tensor([[BOX[:2], BOX[2:]]]), torch.tensor([[2, 3]]))
    logits = ours.decode(features, ours.embedding(features), corners).logits_bnhw[:, 1:]
    assert float((logits - masks).norm() / masks.norm()) < 1e-3


@pytest.mark.parametrize("name", COUNTERPARTS)
def test_every_counterpart_has_all_entries_of_the_same_shape(name: str) -> None:
    shapes = spec_shapes({**SPECS, **IMAGE_SPECS}[name])
    with torch.device("meta"):
        theirs = hub_model(name).state_dict()
        state = to_hub({key: torch.empty(shape) for key, shape in shapes.items()}, theirs)
        back = keys.from_hub(state)
    assert {key: value.shape for key, value in state.items()} == {key: v.shape for key, v in theirs.items()}
    assert {key: tuple(value.shape) for key, value in back.items()} == shapes


@pytest.mark.parametrize("converted", ["edgetam"], indirect=True)
def test_what_inference_does_not_read_may_be_missing(converted: tuple[str, Path, Path], tmp_path: Path) -> None:
    name, published, _ = converted
    unread = (*keys.UNUSED, "num_batches_tracked")
    state = {key: value for key, value in read_state(published).items() if not key.endswith(unread)}
    torch.save(state, tmp_path / "bare.pth")
    assert convert(tmp_path / "bare.pth", tmp_path / "hub").model == name
    load_state(load_any(name, weights="random"), read_state(tmp_path / "hub" / "model.safetensors"))


def small(folder: Path) -> Path:
    torch.save({"a.weight": torch.ones(2, 3)}, folder / "small.pt")
    return folder / "small.pt"


def hub_like(folder: Path) -> Path:
    torch.save({"vision_encoder.a": torch.ones(2)}, folder / "hub.bin")
    return folder / "hub.bin"


def without_counterpart(folder: Path) -> Path:
    shapes = spec_shapes(IMAGE_SPECS["mobilesam"])
    torch.save({key: torch.zeros(shape, dtype=torch.float16) for key, shape in shapes.items()}, folder / "m.pt")
    return folder / "m.pt"


def truncated(folder: Path) -> Path:
    path = small(folder)
    path.write_bytes(path.read_bytes()[:-40])
    return path


@pytest.mark.parametrize(
    ("make", "target", "options", "message"),
    [
        (small, "out", {"model": "sam3"}, "transformers has no 'sam3', but edgetam, sam2.1-tiny, "),
        (small, "out", {"model": "efficienttam-s"}, "transformers has no 'efficienttam-s', but edgetam, "),
        (without_counterpart, "out", {}, "transformers has no 'mobilesam', but edgetam, "),
        (small, "out", {}, "fits no known model by its keys and shapes: name one with --model"),
        (small, "out", {"model": "edgetam"}, r"not those of 'edgetam': \d+ missing .* 1 unexpected \(a.weight\)"),
        (small, "out", {"to": "onnx"}, "no layout 'onnx': published or transformers expected"),
        (small, "out", {"to": "published"}, "has the layout 'published' already"),
        (hub_like, "out.pt", {"to": "transformers"}, "has the layout 'transformers' already"),
        (hub_like, "out", {}, "a file ending in .pt or .pth expected"),
        (small, "out.safetensors", {}, "the name of a folder expected"),
        (small, "full", {}, "full is not empty.*--overwrite"),
        (small, "full", {"overwrite": True}, "full holds files that no earlier conversion wrote"),
        (hub_like, "there.pt", {}, "there.pt exists.*--overwrite"),
        (truncated, "out", {}, "damaged or cut off"),
        (lambda folder: folder / "none.pt", "out", {}, "there is no file"),
    ],
)
def test_what_is_refused_leaves_nothing(
    make: Callable[[Path], Path], target: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    for place in ("full/own.txt", "there.pt"):
        (tmp_path / place).write_text("mine")
    source = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SamVideoError, match=message) as refused:
        convert(source, tmp_path / target, **options)
    assert " -o" not in str(refused.value), "an option that the command does not have"
    assert sorted(tmp_path.rglob("*")) == before
    assert {(tmp_path / place).read_text() for place in ("full/own.txt", "there.pt")} == {"mine"}


@pytest.mark.parametrize("converted", ["slimsam-77"], indirect=True)
def test_a_wrong_shape_is_named(converted: tuple[str, Path, Path], tmp_path: Path) -> None:
    name, published, _ = converted
    state = read_state(published)
    key = min(state)
    torch.save(state | {key: torch.ones(2, 3)}, tmp_path / "wrong.pt")
    with pytest.raises(SamVideoError, match=rf"1 of another shape \({key} is \(2, 3\) instead of"):
        convert(tmp_path / "wrong.pt", tmp_path / "out", model=name)


@pytest.mark.parametrize("converted", ["slimsam-77"], indirect=True)
def test_overwrite_replaces_an_earlier_conversion_only(converted: tuple[str, Path, Path], tmp_path: Path) -> None:
    _, published, _ = converted
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    code, said = command(published, tmp_path / "mine", "--overwrite")
    assert (code, "that no earlier conversion wrote" in said) == (2, True), said
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / LOCK).touch()  # of a process that was killed
    for _ in range(2):
        code, said = command(published, tmp_path / "own", "--overwrite", "--quiet")
        assert (code, said) == (0, "")


@pytest.mark.parametrize("converted", ["slimsam-77"], indirect=True)
def test_a_full_disk_is_said_and_nothing_left(converted: tuple[str, Path, Path], tmp_path: Path) -> None:
    _, published, hub = converted
    for source, target in ((published, tmp_path / "hub"), (hub, tmp_path / "back.pt")):
        with small_disk(100_000):
            code, said = command(source, target)
        assert code == 5
        assert f"cannot write {target}: " in said
        assert "File too large" in said
        assert "free some space, or choose another folder" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("converted", ["slimsam-77"], indirect=True)
def test_two_conversions_do_not_mix(
    converted: tuple[str, Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, published, hub = converted
    with folder_lock(tmp_path / "out"):
        code, said = command(published, tmp_path / "out", "--overwrite")
        assert (code, "another samvideo process writes into" in said, " -o" in said) == (2, True, False), said
    assert not (tmp_path / "out").exists()

    @contextmanager
    def after_another(folder: Path) -> Iterator[None]:
        shutil.copytree(hub, folder)
        with folder_lock(folder):
            yield

    monkeypatch.setattr(interchange, "folder_lock", after_another)
    code, said = command(published, tmp_path / "out")
    assert (code, "is not empty" in said) == (2, True), said


@pytest.mark.parametrize("converted", ["slimsam-77"], indirect=True)
def test_without_transformers(
    converted: tuple[str, Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(interchange, "find_spec", lambda name: None)
    with pytest.raises(
        SamVideoError, match=r"transformers is needed and not installed: pip install 'samvideo\[detect"
    ):
        convert(converted[1], tmp_path / "out")
    assert convert(converted[2], tmp_path / "back.pt").layout == "published"
