"""On a CUDA device: the published outputs, the streaming tracker and the command line, as on the CPU."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from check import run, seeded_model
from check_images import OWN, seeded_weights
from seeded import seeded_frame
from tiny_sam import clip, tiny_model
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.compiled import CompiledRuntime
from samvideo.image_model import ImageModel
from samvideo.models import build
from samvideo.segmenters.image_model import ImageModelSegmenter, ModelImage
from samvideo.specs import IMAGE_SPECS
from samvideo.state_dict import build_spec, load_state, published_shapes
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Frame, Points

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
FIXTURES = Path(__file__).parent / "parity" / "fixtures"
NAME = "efficienttam-ti-512"


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 as such: the fixtures are not met in TF32, which convolutions take by default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize(
    ("stem", "last"),
    [(f"{NAME}--box", None), ("surgical-sam2-s-512--box", None), ("edgetam--box", 9), ("sam2.1-tiny--box", 8)],
)
def test_the_published_outputs(stem: str, last: int | None) -> None:
    report = run(FIXTURES / f"{stem}.npz", last, device="cuda")
    assert report.passed, str(report)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stem", ["edgetam--box", "sam2.1-tiny--box"])
def test_masks_in_sixteen_bits(stem: str, dtype: torch.dtype) -> None:
    ious = run(FIXTURES / f"{stem}.npz", 2, dtype, "cuda").ious
    assert ious
    assert min(ious.values()) >= 0.95, ious


def test_the_tracker_gives_the_masks_of_the_cpu() -> None:
    manifest = json.loads((FIXTURES / f"{NAME}.manifest.json").read_text())
    frames = [Frame(index, index / 25, seeded_frame(index, 512)) for index in range(4)]
    boxes = [Box((56, 136, 224, 304), object_id=1), Box((300, 60, 420, 180), object_id=2)]
    results = []
    for device in ("cpu", "cuda"):
        tracker = SamTracker(TorchRuntime(seeded_model(NAME, manifest), device=device), logits=True)
        results.append([tracker.step(frame, boxes if frame.index == 0 else []) for frame in frames])
    for on_cpu, on_gpu in zip(*results, strict=True):
        assert on_cpu.object_ids == on_gpu.object_ids
        assert np.linalg.norm(on_gpu.logits - on_cpu.logits) <= 1e-3 * np.linalg.norm(on_cpu.logits)


def test_compiled_stages_give_the_same_masks() -> None:
    """Two objects, then three: results of earlier frames are not overwritten by the graphs of later ones."""
    results = []
    for runtime in (TorchRuntime, CompiledRuntime):
        tracker = SamTracker(runtime(tiny_model(), device="cuda"), logits=True)
        prompts = {
            0: [Box((10, 20, 40, 60)), Box((5, 5, 30, 30), object_id=2)],
            4: [Box((9, 9, 50, 50), object_id=3)],
        }
        results.append([tracker.step(frame, prompts.get(frame.index, [])) for frame in clip(12)])
    for eager, compiled in zip(*results, strict=True):
        assert eager.object_ids == compiled.object_ids
        assert np.linalg.norm(compiled.logits - eager.logits) <= 5e-3 * np.linalg.norm(eager.logits)


def test_the_gpus_memory_does_not_grow() -> None:
    tracker, held = SamTracker(TorchRuntime(tiny_model(), device="cuda")), []
    for frame in clip(80):
        tracker.step(frame, [Box((10, 20, 40, 60))] if frame.index == 0 else [])
        held.append(torch.cuda.memory_allocated())
    assert max(held[40:]) <= max(held[:40])


@pytest.mark.parametrize("options", [["--device", "cuda"], ["--device", "auto"], ["--dtype", "fp16"]])
def test_track(options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = {key: 0.02 * torch.randn(shape) for key, shape in published_shapes(build(NAME)).items()}
    torch.save({"model": state}, "weights.pt")

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    call("demo-clip", "clip.mp4", "--frames", "5", "--width", "160", "--height", "96")
    tracked = ("track", "clip.mp4", "-p", "box=10,20,60,70", "--model", NAME, "--weights", "weights.pt")
    assert json.loads(call(*tracked, *options, "--json"))["frames"] == 5


def test_a_device_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(app, ["demo-clip", "clip.mp4", "--frames", "2", "--width", "160", "--height", "96"])
    done = CliRunner().invoke(
        app, ["track", "clip.mp4", "-p", "box=1,2,60,70", "--model", "edgetam", "--device", "cuda:99"]
    )
    assert done.exit_code == 2
    assert "not available" in done.stderr


IMAGE_MODELS = (
    "sam-vit-b",
    "slimsam-77",
    "sam-lightening",
    "mobilesam",
    "edgesam",
    "repvit-sam",
    "efficientsam-ti",
    "efficientvit-sam-l0",
    "nanosam",
    "rwkv-sam-small",
)


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_image_models_give_the_numbers_of_the_cpu(name: str) -> None:
    """Logits in float32; in bfloat16 features, since seeded weights amplify their errors up to the masks."""
    rgb = np.ascontiguousarray(seeded_frame(3, 768)[:427, :640])
    prompts = [Box((144, 85, 400, 335)), Points([(276, 210)]), Points([(276, 210), (375, 177)], [1, 0])]
    weights = seeded_weights(name, OWN)

    def embed(device: str, dtype: str) -> ModelImage:
        model = build_spec(IMAGE_SPECS[name])
        assert isinstance(model, ImageModel)
        load_state(model, weights)
        return ImageModelSegmenter(model, device=device, dtype=dtype).embed(rgb)

    on_cpu, on_gpu, half = embed("cpu", "fp32"), embed("cuda", "fp32"), embed("cuda", "bf16")
    assert relative(half.features.coarse, on_cpu.features.coarse) <= 5e-2
    for exact, other in zip(on_cpu.segment(prompts), on_gpu.segment(prompts), strict=True):
        assert relative(torch.as_tensor(other.logits_nhw), torch.as_tensor(exact.logits_nhw)) <= 5e-3


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.float().cpu() - expected).norm() / expected.norm())
