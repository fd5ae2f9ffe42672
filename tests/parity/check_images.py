"""Compare the image models with the published ones: python tests/parity/check_images.py DIR [--only PATTERN].

Every `<model>--<kind>.npz` or `.json` in DIR is run. Manifests, seeding scripts and prompts that DIR lacks are the
project's own (tests/parity/image). One line a fixture; exit status 1 if one fails. Fixtures of kinds that are not
built are listed and do not fail.
"""

import argparse
import fnmatch
import importlib.util
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import everything  # noqa: E402
import images  # noqa: E402

from samvideo.image_model import ImageModel  # noqa: E402
from samvideo.specs import IMAGE_SPECS  # noqa: E402
from samvideo.state_dict import Loadable, build_spec, load_state  # noqa: E402

OWN = HERE / "image"
KINDS = {
    *((kind, ".npz") for kind in ("prompts", "pictures", "clicks")),
    *((kind, ".json") for kind in ("everything", "everything-crops", "boxes")),
}
GROUP1 = ("sam-vit-", "mobilesam", "tinysam", "edgesam", "repvit-sam")
NETWORKS = {"squeezesam": "squeezesam", "rap-sam-r50": "rap_sam", "fastsam3d": "fastsam3d"}
EXACT = ("input_size", "input_sum", "prompt_area", "size")


@dataclass(frozen=True)
class Limits:
    """What a fixture's README allows: relative L2 errors, absolute ones of IoU (relative in group 2), areas."""

    encoder: float
    masks: float
    iou: float
    areas: tuple[int, int]  # low-resolution, whole
    signs: float = 0.998
    stability: float = 3e-4
    relative_iou: bool = False
    input: float = 0.0


def limits_of(model: str) -> Limits:
    """The tolerances of a model, from the README of the fixtures."""
    if model == "edgesam":
        return Limits(1e-5, 2e-4, 5e-5, (10, 20))
    if model == "repvit-sam":
        return Limits(5e-5, 3e-3, 1e-3, (40, 40))
    if model.startswith(GROUP1):
        return Limits(5e-6, 1e-4, 1e-5, (5, 10))
    masks = 1e-3 if model.startswith("rap-sam") else 3e-5
    iou = 1e-3 if model.startswith("rap-sam") else 1e-4
    return Limits(masks, masks, iou, (5, 10), signs=0.999, relative_iou=True, input=1e-6)


@dataclass
class Report:
    """Worst error of each quantity, and what was outside of its limit."""

    limits: Limits
    worst: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def take(self, key: str, expected: np.ndarray, got: np.ndarray, whole: bool) -> None:
        """Compare one entry, which may be of masks at the `whole` size of the picture."""
        quantity = key.split("/")[-1]
        if expected.shape != got.shape:
            self.faults.append(f"{key}: {expected.shape} expected, not {got.shape}")
            return
        want, have = np.asarray(expected, np.float64), np.asarray(got, np.float64)
        limits = self.limits
        if quantity in EXACT:
            self._judge(key, quantity, float(np.abs(have - want).max()), 0)
        elif "area" in quantity:
            self._judge(key, "area", float(np.abs(have - want).max()), limits.areas[whole])
        elif quantity == "iou":
            error = _relative(want, have) if limits.relative_iou else float(np.abs(have - want).max())
            self._judge(key, quantity, error, limits.iou)
        elif quantity == "stability":
            self._judge(key, quantity, float(np.abs(have - want).max()), limits.stability)
        elif quantity in ("low_res", "logits", "full"):
            rows = zip(want, have, strict=True) if quantity != "full" else [(want, have)]
            for one, other in rows:
                self._judge(key, "masks", _relative(one, other), limits.masks)
                self._judge(key, "signs", 1 - float(((one > 0) == (other > 0)).mean()), 1 - limits.signs)
        else:
            self._judge(
                key, quantity, _relative(want, have), limits.input if quantity == "input" else limits.encoder
            )

    def _judge(self, key: str, quantity: str, error: float, limit: float) -> None:
        self.worst[quantity] = max(self.worst.get(quantity, 0.0), error)
        if not error <= limit:
            self.faults.append(f"{key}: {quantity} {error:.2e}, at most {limit:.0e} expected")

    def __str__(self) -> str:
        return ", ".join(f"{name} {error:.1e}" for name, error in sorted(self.worst.items()))


def _relative(want: np.ndarray, have: np.ndarray) -> float:
    return float(np.linalg.norm(have - want) / max(np.linalg.norm(want), 1e-12))


def beside(folder: Path, name: str) -> Path:
    """A file of the fixtures' folder or the one above, else the project's own."""
    places = (folder, folder.parent, OWN, HERE)
    for place in places:
        if (place / name).is_file():
            return place / name
    raise FileNotFoundError(f"{name} is in none of {', '.join(map(str, places))}")


@cache
def script(path: Path) -> ModuleType:
    """A seeding script as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def seeded_weights(model: str, folder: Path, mask_bias: float = 0.0) -> dict[str, torch.Tensor]:
    """The deterministic weights of a model, by the published keys of its manifest; the bias is of mask logits."""
    entries = json.loads(beside(folder, f"{model}.manifest.json").read_text())
    script(beside(folder, "seeded.py"))
    one = partial(script(beside(folder, "seeded_image.py")).seeded_image_array, mask_bias=mask_bias)
    two = script(beside(folder, "seeded_image2.py"))
    array = (
        one if model.startswith(GROUP1) else two.rap_sam_array if model.startswith("rap-sam") else two.image_array
    )
    if model == "mobilesamv2":  # three parts, named after file and wrapper
        parts = zip(("image_encoder.", "prompt_encoder.", "mask_decoder."), entries.values(), strict=True)
        entries = {prefix + key: value for prefix, part in parts for key, value in part.items()}
    return {key: torch.from_numpy(np.asarray(array(key, tuple(shape)))) for key, (shape, _) in entries.items()}


@lru_cache(maxsize=1)  # all models at once would take gigabytes
def seeded_model(model: str, folder: Path) -> Loadable:
    """A model with the deterministic weights, not fused; every key of the manifest, and no other, must fit."""
    built = build_spec(IMAGE_SPECS[model])
    load_state(built, seeded_weights(model, folder))
    return built


@torch.inference_mode()
def run(path: Path) -> Report:
    """Compute all entries of a fixture, and compare."""
    model, kind = path.stem.split("--")
    if path.suffix == ".json":
        return run_everything(model, path)
    with np.load(path) as file:
        fixture = {key: file[key] for key in file.files}
    built = seeded_model(model, path.parent)
    if model.startswith(GROUP1):
        prompts = json.loads(beside(path.parent, "prompts.json").read_text())
        assert isinstance(built, ImageModel)
        found = images.group1(built, fixture, prompts, script(beside(path.parent, "seeded.py")))
    else:
        prompts = json.loads(beside(path.parent, "group2.prompts.json").read_text())
        seeded = script(beside(path.parent, "seeded_image2.py"))
        part: Mapping[str, Any] = prompts.get(f"{model}--{kind}", prompts["prompts"])
        if model in NETWORKS:
            found = script(HERE / f"images_{NETWORKS[model]}.py").run(built, fixture, part, seeded)
        else:
            assert isinstance(built, ImageModel)
            found = images.group2(built, fixture, part, seeded)
    report = Report(limits_of(model))
    report.faults += [f"{key} was not computed" for key in sorted(set(fixture) - set(found))]
    for key in sorted(fixture.keys() & found.keys()):
        report.take(key, fixture[key], np.asarray(found[key]), images.is_whole(key, fixture))
    return report


def run_everything(model: str, path: Path) -> Report:
    """Compare the masks that an automatic prompter finds."""
    fixture = json.loads(path.read_text())
    built = build_spec(IMAGE_SPECS[model])
    assert isinstance(built, ImageModel)
    load_state(built, seeded_weights(model, path.parent, fixture["mask_bias"]))
    seeded = script(beside(path.parent, "seeded.py"))
    return Report(limits_of(model), faults=list(everything.faults(built.eval(), fixture, seeded)))


def names(path: Path) -> tuple[str, str, str]:
    """What a fixture may be called: by its file, without the ending, and by its model."""
    return path.name, path.stem, path.stem.split("--", 1)[0]


def main() -> int:
    """Check a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="*", help="fixtures or models, e.g. 'mobilesam*'")
    arguments = parser.parse_args()
    fixtures = [p for p in sorted(arguments.folder.glob("*--*")) if p.suffix in (".npz", ".json")]
    chosen = [p for p in fixtures if any(fnmatch.fnmatch(name, arguments.only) for name in names(p))]
    if not chosen:
        print(f"no fixture {arguments.only} in {arguments.folder}", file=sys.stderr)
        return 2
    failed = 0
    for path in chosen:
        model, kind = path.stem.split("--", 1)
        if (kind, path.suffix) not in KINDS or model not in IMAGE_SPECS:
            print(f"not supported {path.stem}")
            continue
        begin = time.perf_counter()
        try:
            report = run(path)
        except Exception as error:  # whatever is wrong with one fixture, the others are checked
            failed += 1
            print(f"FAIL {path.stem}: cannot be computed: {type(error).__name__}: {error}")
            continue
        failed += bool(report.faults)
        print(f"{'FAIL' if report.faults else 'ok':4} {path.stem} ({time.perf_counter() - begin:.0f} s): {report}")
        for fault in report.faults[:20]:
            print(f"     {fault}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
