"""Compare samvideo with the published implementations' outputs: python tests/parity/check.py DIR [--only PATTERN].

Every `<model>--<scenario>.npz` in DIR (or DIR/fixtures) is run; `<scenario>.scenario.json` and
`<model>.manifest.json` lie beside it or in the folder above. One line a fixture; exit status 1 if one fails.
`--runtime onnx` or `openvino` exports each model first and runs its graphs.
"""

import argparse
import fnmatch
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from policies import UnknownPolicy, change_weights, exact, run_policy
from published import Clip, Options, Output, Predictor
from seeded import seeded_array

from samvideo.deploy.bundle import export_model
from samvideo.deploy.graph_runtime import GraphRuntime, GraphTokens
from samvideo.deploy.onnx_runtime import open_onnx
from samvideo.deploy.openvino_runtime import open_openvino
from samvideo.models import VideoModel, build
from samvideo.state_dict import load_state
from samvideo.tensors import MemoryTokens
from samvideo.torch_runtime import TorchRuntime

MASK_LIMIT, SIGN_LIMIT, POINTER_LIMIT = 1e-3, 0.999, 1e-2
# of fixtures with a policy, whose weights hide small errors of memory in the masks
POLICY_LIMITS = {"mask_logits": 3e-4, "obj_ptr": 3e-3, "object_score": 1e-3, "ious": 1e-3, "kf_mean": 1e-3}
POLICY_LIMITS |= {"path_logits": 3e-4, "object_scores": 1e-3, "path_score": 1e-3}
# the factor of a lone pointer is recorded before the published code rounds it; two that swap differ by more
POLICY_LIMITS |= {"memory_scale": 1e-6, "pointer_scale": 1e-3}
ABSOLUTE = ("object_score", "ious", "object_scores", "path_score")
POLICY_LIMITS |= {"area_ratio": 1e-3, "box_ious": 1e-3, "memory": 1e-2, "memory_promoted": 1e-2}
POLICY_LIMITS |= {"n_pixels": 1e-4}  # of some 20,000 pixels, one has a logit of 6e-6, which is within rounding
ABSOLUTE = ("object_score", "ious", "area_ratio", "box_ious")
# the predictors of these two are the older ones, which keep the clicks on a corrected frame
KEEPING = ("edgetam", "surgical")
ALPHABET = {"prompt": {"frame", "object", "box", "points", "labels", "disc"}}
ALPHABET["propagate"] = {"tag", "start", "max", "reverse"}


@dataclass
class Report:
    """Worst error of each quantity over a fixture's frames and objects."""

    worst: dict[str, float] = field(default_factory=dict)
    signs: float = 1.0
    compared: set[str] = field(default_factory=set)
    ious: dict[str, float] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)

    def take(self, key: str, expected: np.ndarray, got: np.ndarray) -> None:
        self.compared.add(key)
        quantity = key.split("/")[-1] if not key.startswith("act/") else "act"
        expected, got = np.asarray(expected, np.float64), np.asarray(got, np.float64)
        assert expected.shape == got.shape, f"{key}: {expected.shape} expected, not {got.shape}"
        error = float(np.linalg.norm(got - expected) / max(np.linalg.norm(expected), 1e-12))
        if self.limits and quantity in ABSOLUTE:
            error = float(np.abs(got - expected).max(initial=0))
        self.worst[quantity] = max(self.worst.get(quantity, 0.0), error)
        if quantity == "mask_logits":
            inside, ours = expected > 0, got > 0
            self.signs = min(self.signs, float((inside == ours).mean()))
            if 0.1 <= inside.mean() <= 0.9:  # of a degenerate mask, a pixel or two decide
                self.ious[key] = float((inside & ours).sum() / (inside | ours).sum())

    @property
    def passed(self) -> bool:
        if any(error > self.limits.get(q, 0.0 if exact(q) else np.inf) for q, error in self.worst.items()):
            return False
        masks, pointers = self.worst.get("mask_logits", 1.0), self.worst.get("obj_ptr", 0.0)
        return masks <= MASK_LIMIT and self.signs >= SIGN_LIMIT and pointers <= POINTER_LIMIT

    def __str__(self) -> str:
        parts = [f"{name} {error:.1e}" for name, error in sorted(self.worst.items())]
        return f"worst relative error: {', '.join(parts)}; signs {self.signs:.5f}"


def beside(fixture: Path, name: str) -> Path:
    for folder in (fixture.parent, fixture.parent.parent, fixture.parent / "fixtures"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{name} is neither beside {fixture} nor in the folder above")


def seeded_model(
    name: str, manifest: dict, score_bias: float | None = None, weights: Sequence[dict] = ()
) -> VideoModel:
    """A published model with the deterministic weights; every key of the manifest, and no other, must fit."""
    bias = {} if score_bias is None else {"score_bias": score_bias}
    arrays = {key: seeded_array(key, tuple(shape), **bias) for key, (shape, _) in manifest.items()}
    change_weights(arrays, weights)
    state = {key: torch.from_numpy(array) for key, array in arrays.items()}
    model = build(name, policy="pruning-published" if name.startswith("surgical") else None)
    load_state(model, state)
    return model.fuse()


def prompt_of(step: dict, size: int) -> tuple[tuple[np.ndarray, np.ndarray] | None, np.ndarray | None]:
    """A scenario's prompt, written for 256 pixels, at the model's input size."""
    scale = size / 256
    if "disc" in step:
        cx, cy, r = (value * scale for value in step["disc"])
        y, x = np.mgrid[:size, :size] + 0.5
        return None, (x - cx) ** 2 + (y - cy) ** 2 <= r**2
    xy = np.asarray(step.get("points", []), np.float32).reshape(-1, 2)
    labels = np.asarray(step.get("labels", [1] * len(xy)), np.int64)
    if "box" in step:
        xy = np.concatenate([np.asarray(step["box"], np.float32).reshape(2, 2), xy])
        labels = np.concatenate([[2, 3], labels])
    if not len(xy):
        raise ValueError(f"a prompt has a box, points or a disc; this one has {sorted(step)}")
    return (xy * np.float32(scale), labels), None


def compare(report: Report, fixture: dict, key: str, output: Output) -> None:
    prediction, entry = output.prediction, output.entry
    logits, pointer = array(prediction.logits), array(prediction.pointer)
    logits = logits.reshape(logits.shape[-2:])
    values = {
        "mask_logits": logits[::4, ::4],
        "mask_area": (logits > 0).sum(),
        "obj_ptr": pointer.reshape(-1),
        "object_score": array(prediction.presence).reshape(1),
    }
    for quantity, value in values.items():
        if f"{key}/{quantity}" in fixture:
            report.take(f"{key}/{quantity}", fixture[f"{key}/{quantity}"], value)
    if f"{key}/memory" in fixture:
        expected = fixture[f"{key}/memory"]
        report.take(f"{key}/memory", expected, sampled(entry.tokens, expected.shape))


def array(value: torch.Tensor | np.ndarray | float) -> np.ndarray:
    return value.float().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def sampled(tokens: MemoryTokens | GraphTokens, shape: tuple[int, ...]) -> np.ndarray:
    """Every eighth of the tokens of a Perceiver, (N, C), or every 61st of a map's, (C, N)."""
    features = array(tokens.features)
    rows = features.reshape(-1, features.shape[-1])
    return rows[::8] if rows[::8].shape == shape else rows.T[:, ::61]


def check_step(kind: str, step: dict) -> None:
    unknown = set(step) - ALPHABET[kind]
    if unknown:
        raise ValueError(f"{kind} step: unknown {sorted(unknown)}; known: {sorted(ALPHABET[kind])}")


def run(
    path: Path,
    last_frame: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    runtime: str = "torch",
) -> Report:
    """Run one fixture; `last_frame` cuts the clip's runs short for quick tests."""
    name, scenario_name = path.name.removesuffix(".npz").split("--")
    scenario = json.loads(beside(path, f"{scenario_name}.scenario.json").read_text())
    manifest = json.loads(beside(path, f"{name}.manifest.json").read_text())
    fixture = dict(np.load(path))
    model = seeded_model(name, manifest, scenario.get("score_bias", {}).get(name), scenario.get("weights", ()))
    if "policy" in scenario:
        if runtime != "torch":
            raise UnknownPolicy("scenarios of policies run in PyTorch only")
        return run_with_policy(model, scenario, fixture, last_frame)
    opened = TorchRuntime(model, device=device, dtype=dtype) if runtime == "torch" else exported(model, runtime)
    clip = Clip(opened, scenario["frames"])
    options = Options.of(scenario.get("set", {}))
    objects: dict[int, Predictor] = {}
    report = Report()
    for item in scenario["steps"]:
        ((kind, step),) = item.items()
        if kind not in ALPHABET:
            raise ValueError(f"unknown step {kind!r}; known: {sorted(ALPHABET)}")
        check_step(kind, step)
        if kind == "prompt":
            if step["object"] not in objects:
                objects[step["object"]] = Predictor(clip, options, not name.startswith(KEEPING))
            points, mask = prompt_of(step, clip.size)
            objects[step["object"]].prompt(step["frame"], points, mask)
            continue
        for object_id, predictor in objects.items():
            for frame, output in predictor.run(step.get("start"), step.get("max"), step.get("reverse", False)):
                compare(report, fixture, f"{step['tag']}/{frame}/{object_id}", output)
                if last_frame is not None and frame >= last_frame:
                    break
    for level, value in enumerate(clip.maps(0)):
        if f"act/image_fpn{level}" in fixture:
            report.take(f"act/image_fpn{level}", fixture[f"act/image_fpn{level}"], value[:16, ::4, ::4])
    left = sorted(set(fixture) - report.compared)
    if left and last_frame is None:
        raise ValueError(f"{path.name}: the run never reached {len(left)} entries, first {left[:3]}")
    return report


def exported(model: VideoModel, runtime: str) -> GraphRuntime:
    """The model as graphs; nothing is left on disk."""
    with TemporaryDirectory() as folder:
        if runtime == "onnx":
            return open_onnx(export_model(model, Path(folder) / "graphs"), threads=torch.get_num_threads())
        path = export_model(model, Path(folder) / "graphs", to="openvino")
        return open_openvino(path, threads=torch.get_num_threads())


@torch.inference_mode()
def run_with_policy(model: VideoModel, scenario: dict, fixture: dict, last_frame: int | None) -> Report:
    """Run a scenario of a policy through the streaming tracker."""
    report = Report(limits=POLICY_LIMITS)
    for key, values in run_policy(model, scenario, last_frame):
        for quantity, value in values.items():
            if f"{key}/{quantity}" in fixture:
                expected = fixture[f"{key}/{quantity}"]
                report.take(f"{key}/{quantity}", expected, value(expected) if callable(value) else value)
    missing = sorted(key for key in set(fixture) - report.compared if not key.startswith("act/"))
    if missing and last_frame is None:
        raise ValueError(f"the run never reached {len(missing)} entries, first {missing[:3]}")
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="shell pattern for <model>--<scenario>")
    parser.add_argument("--runtime", default="torch", choices=("torch", "onnx", "openvino"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    paths = sorted(arguments.folder.glob("*--*.npz")) + sorted(arguments.folder.glob("fixtures/*--*.npz"))
    paths = [p for p in paths if fnmatch.fnmatch(p.stem, arguments.only) or arguments.only in p.stem]
    if not paths:
        parser.error(f"no <model>--<scenario>.npz like {arguments.only!r} in {arguments.folder}")
    failed = skipped = 0
    for path in paths:
        began = time.perf_counter()
        try:
            report = run(path, runtime=arguments.runtime)
            passed, text = report.passed, str(report)
        except UnknownPolicy as error:
            print(f"skip  {path.stem:40} {error}", flush=True)
            skipped += 1
            continue
        except Exception as error:
            passed, text = False, f"{type(error).__name__}: {error}"
        failed += not passed
        print(
            f"{'pass' if passed else 'FAIL'}  {path.stem:40} {text}  ({time.perf_counter() - began:.0f} s)",
            flush=True,
        )
    print(f"{len(paths) - failed - skipped} of {len(paths)} passed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
