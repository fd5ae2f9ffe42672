"""Number formats, compiled stages and ONNX Runtime on a GPU, in one table: python tests/gpu_check.py -o FILE.

Weights are the deterministic ones of the parity fixtures, but `nano` has its own. Rows are printed as soon as they
are measured, and the file is rewritten with each. Without a GPU nothing is measured.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / name) for name in ("helpers", "parity", "parity/image"))]

from check import seeded_model  # noqa: E402
from device_table import COLUMNS, Table, Variant, measure, timed  # noqa: E402
from seeded import seeded_frame  # noqa: E402
from seeded_image import seeded_image_array  # noqa: E402

from samvideo.compiled import CompiledRuntime, compiled  # noqa: E402
from samvideo.demo import demo_frames  # noqa: E402
from samvideo.geometry import mask_box  # noqa: E402
from samvideo.image_model import ImageModel  # noqa: E402
from samvideo.models import VideoModel, build  # noqa: E402
from samvideo.prompters.base import Candidate, MaskFilter  # noqa: E402
from samvideo.prompters.decoding import PromptedPart  # noqa: E402
from samvideo.prompters.grid import GridConfig, GridPrompter, click_grid  # noqa: E402
from samvideo.specs import IMAGE_SPECS  # noqa: E402
from samvideo.state_dict import build_spec, load_state, published_shapes  # noqa: E402
from samvideo.torch_runtime import TorchRuntime, resolve_device  # noqa: E402
from samvideo.trackers.sam import SamTracker  # noqa: E402
from samvideo.types import Box, Frame  # noqa: E402
from samvideo.weights.read import read_state  # noqa: E402

FRAMES = 12
"""After which masks are compared."""
TIMED = 20
PICTURES = 5
"""How often a picture is computed before it is timed, and then timed."""
SIDE = 1024
DTYPES = "fp32", "bf16", "fp16"
COMPILING = 0.4
"""Share of the time in which all models are compiled, side by side, before anything is timed."""


@dataclass(frozen=True)
class Subject:
    """A video model and what it tracks."""

    name: str
    make: Callable[[], VideoModel]
    frames: Callable[[], tuple[list[Frame], list[Box]]]


def seeded_subject(name: str, side: int) -> Subject:
    """A published model with the weights of its fixtures."""
    manifest = ROOT / "tests/parity/fixtures" / f"{name}.manifest.json"

    def frames() -> tuple[list[Frame], list[Box]]:
        scale = side / 512
        pictures = [seeded_frame(index, side) for index in range(FRAMES + TIMED)]
        box = Box((56 * scale, 136 * scale, 224 * scale, 304 * scale))
        return [Frame(i, i / 25, rgb) for i, rgb in enumerate(pictures)], [box]

    return Subject(name, lambda: seeded_model(name, json.loads(manifest.read_text())), frames)


def nano_subject(size_wh: tuple[int, int] = (854, 480), objects: int = 3) -> Subject:
    """The bundled model on the demo clip."""

    def make() -> VideoModel:
        model = build("nano")
        load_state(model, read_state(ROOT / "samvideo/bundled/nano.safetensors"))
        return model

    def frames() -> tuple[list[Frame], list[Box]]:
        pictures = list(islice(demo_frames(90, size_wh, objects), FRAMES + TIMED))
        boxes = [mask_box(mask) for mask in pictures[0][1]]
        prompts = [Box(box, object_id=i) for i, box in enumerate(boxes, 1) if box is not None]
        return [Frame(i, i / 25, rgb) for i, (rgb, _) in enumerate(pictures)], prompts

    return Subject(f"nano, {objects} objects", make, frames)


def tiny_subject() -> Subject:
    """For trying this script."""
    from tiny_sam import clip, tiny_model

    return Subject("tiny", tiny_model, lambda: (clip(FRAMES + TIMED), [Box((10, 20, 40, 60))]))


def tracking(subject: Subject, runtime: Callable[[VideoModel], Any]) -> Callable[[int], np.ndarray]:
    """Tracks frame by frame on a runtime of the subject's model."""
    tracker = SamTracker(runtime(subject.make()))
    frames, prompts = subject.frames()
    return lambda index: tracker.step(frames[index], prompts if index == 0 else []).masks


def torch_variants(subject: Subject, device: torch.device) -> list[Variant]:
    """Number formats, and compiled stages."""
    return [
        Variant(
            f"{'compiled' if kind is CompiledRuntime else 'eager'} {dtype}",
            partial(tracking, subject, partial(kind, device=device, dtype=dtype)),
        )
        for kind, dtype in [*((TorchRuntime, dtype) for dtype in DTYPES), (CompiledRuntime, compiled_dtype(device))]
    ]


def onnx_variants(subject: Subject, device: torch.device, folder: Path) -> list[Variant]:
    """ONNX Runtime with the providers of the device."""

    def open_exported(provider: str) -> Callable[[int], np.ndarray]:
        import onnxruntime

        from samvideo.deploy.bundle import export_model
        from samvideo.deploy.onnx_runtime import PROVIDERS, open_onnx

        if PROVIDERS[provider] not in (there := onnxruntime.get_available_providers()):
            raise RuntimeError(f"{PROVIDERS[provider]} is not installed; there are {', '.join(there)}")
        if not folder.exists():
            export_model(subject.make(), folder)
        return tracking(subject, lambda _: open_onnx(folder, device=provider))

    providers = ["cuda", "tensorrt"] if device.type == "cuda" else ["cpu"]
    return [Variant(f"ONNX Runtime {name} fp32", partial(open_exported, name)) for name in providers]


def compiled_dtype(device: torch.device) -> str:
    """The number format of what is compiled."""
    return "bf16" if device.type == "cuda" else "fp32"


def image_model(device: torch.device, dtype: str, compile_encoder: bool, small: bool) -> ImageModel:
    """SAM's ViT-B, or the smallest that there is, with the weights of its fixtures."""
    model = build_spec(IMAGE_SPECS["slimsam-77" if small else "sam-vit-b"])
    assert isinstance(model, ImageModel)
    load_state(model, {k: torch.from_numpy(seeded_image_array(k, s)) for k, s in published_shapes(model).items()})
    model.eval().requires_grad_(False).fuse().convert(*resolve_device(device, dtype))
    if compile_encoder:
        model.encode = compiled(model.encode, model.device)  # type: ignore[method-assign]
    return model


def few_masks(model: ImageModel, image: np.ndarray) -> list[Candidate]:
    """All masks of 8 x 8 clicks."""
    side = len(image)
    part = PromptedPart(model, image, (0, 0, side, side))
    return part.masks(side * click_grid(8)[:, None], np.ones((64, 1), np.int64), MaskFilter(0.0, 0.0))


def encoding(open_model: Callable[[], ImageModel]) -> Callable[[int], np.ndarray]:
    """Encodes a picture; the last time before frames are timed, masks of clicks come of it."""
    model, image = open_model(), seeded_frame(3, SIDE)
    picture = model.preprocess(image)

    @torch.inference_mode()
    def step(index: int) -> np.ndarray:
        if index != PICTURES - 1:
            model.encode(picture)
            return np.zeros((1, 1), bool)
        return np.stack([np.unpackbits(one.bits).astype(bool) for one in few_masks(model, image)])

    return step


def everything(open_model: Callable[[], ImageModel]) -> Callable[[int], np.ndarray]:
    """Finds all objects by 32 x 32 clicks; the union of masks that are rated as the better quarter of a few."""
    model, image = open_model(), seeded_frame(3, SIDE)
    least = float(np.quantile([one.quality for one in few_masks(model, image)], 0.75))
    prompter = GridPrompter(partial(PromptedPart, model), GridConfig(keep=MaskFilter(least, 0.0)))

    def step(index: int) -> np.ndarray:
        found = [one.mask for one in prompter.propose(image)]
        return np.any([np.zeros((SIDE, SIDE), bool), *found], 0)[None]

    return step


def image_variants(run: Callable[..., Any], device: torch.device, small: bool) -> list[Variant]:
    """Number formats, and the compiled encoder."""
    return [
        Variant(
            f"{'compiled' if graphs else 'eager'} {dtype}",
            partial(run, partial(image_model, device, dtype, graphs, small)),
        )
        for dtype, graphs in [*((dtype, False) for dtype in DTYPES), (compiled_dtype(device), True)]
    ]


def compile_beforehand(names: Sequence[str], device: torch.device, table: Table) -> None:
    """Compile all models in processes of their own, side by side, into the compiler's cache on disk."""
    end = time.monotonic() + COMPILING * table.left
    environment = os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": str(max(1, (os.cpu_count() or 1) // len(names)))}
    command = [sys.executable, __file__, "--device", str(device), "--compile"]
    running = {
        name: subprocess.Popen(
            [*command, name], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for name in names
    }
    for name, process in running.items():
        variant = f"compiling {compiled_dtype(device)} for the first time"
        try:
            output, _ = process.communicate(timeout=max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            table.missing(name, variant, "stopped: it took too long")
            continue
        last = (output.strip().splitlines() or ["no output"])[-1]
        if process.returncode:
            table.missing(name, variant, last[:200].replace("|", "/"))
        else:
            table.add(name, variant, "", "", last, "", "", f"{len(names)} processes side by side")


def compile_one(subject: Subject | None, device: torch.device, small: bool) -> None:
    """Compile a video model or, for None, the encoder of the image model; print the seconds of three frames."""
    dtype = compiled_dtype(device)
    if subject is None:
        step = encoding(partial(image_model, device, dtype, True, small))
    else:
        step = tracking(subject, partial(CompiledRuntime, device=device, dtype=dtype))
    print(f"{sum(timed(partial(step, index), device) for index in range(3)):.1f}")


def heading(device: torch.device) -> str:
    """What the numbers depend on."""
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return (
        f"{machine}, Python {platform.python_version()}, PyTorch {torch.__version__}. `ms`: median of a frame; "
        f"`times as fast`: as eager fp32 (without TF32), median over frames that were timed in turn; `mask IoU`: "
        f"with it after {FRAMES} frames."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the exit status is 0 also where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, help="Markdown file for the table")
    parser.add_argument("--minutes", type=float, default=4.0, help="for everything [4]")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--tiny", action="store_true", help="a tiny model and one small encoder, to try this script"
    )
    parser.add_argument("--compile", metavar="SUBJECT", help="only compile this one")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device: nothing was measured")
        return 0
    device = torch.device(options.device)
    torch.backends.cudnn.allow_tf32 = False
    subjects = {one.name: one for one in ([tiny_subject()] if options.tiny else published_subjects())}
    image = "slimsam-77" if options.tiny else "sam-vit-b"
    if options.compile:
        compile_one(subjects.get(options.compile), device, options.tiny)
        return 0
    table = Table(options.out, heading(device), time.monotonic() + 60 * options.minutes)
    print(table.heading, " | ".join(COLUMNS), sep="\n")
    if device.type == "cuda":
        compile_beforehand([*subjects, image], device, table)
    for subject in subjects.values():
        measure(subject.name, torch_variants(subject, device), device, table, FRAMES, TIMED)
    measure(f"{image}, encoder", image_variants(encoding, device, options.tiny), device, table, PICTURES, PICTURES)
    if not options.tiny:
        measure(
            f"{image}, everything", image_variants(everything, device, False), device, table, PICTURES, PICTURES
        )
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects.values():
            variants = [
                torch_variants(subject, device)[0],
                *onnx_variants(subject, device, Path(folder) / "export"),
            ]
            measure(f"{subject.name}, ONNX Runtime", variants, device, table, FRAMES, TIMED)
            break  # exporting takes long
    return 0


def published_subjects() -> list[Subject]:
    """What is measured on a GPU, in this order."""
    return [
        seeded_subject("edgetam", 1024),
        seeded_subject("efficienttam-ti-512", 512),
        nano_subject(),
        seeded_subject("sam2.1-tiny", 1024),
    ]


if __name__ == "__main__":
    sys.exit(main())
