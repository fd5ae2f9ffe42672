"""Image models on the fixtures' pictures and prompts: the values that the published predictors put out."""

from collections.abc import Callable, Collection, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samvideo.heads.masks import stability
from samvideo.image_model import ImageModel
from samvideo.picture_sizes import prompt_scale
from samvideo.pictures import resized, to_input, to_picture
from samvideo.tensors import Features, MaskCandidates, PromptTensors

QUANTITIES = ("low_res", "logits", "area", "stability", "iou")
MODES = {"single": slice(0, 1), "multi": slice(1, 4), "all": slice(0, 4)}
STRIDES = (4, 8, 16, 32, 5, 9, 17, 48)
"""Strides of the published samples; where several give the same shape, the first counts."""


def sampled(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Every n-th entry along each axis, n such that the result has the shape of the fixture's entry.

    Where there is no such n, `values` as they are: their shape is then reported.
    """
    if len(shape) != values.ndim:
        return values
    strides = [_stride(size, wanted) for size, wanted in zip(values.shape, shape, strict=True)]
    if None in strides:
        return values
    return values[tuple(slice(None, None, stride) for stride in strides)]


def _stride(size: int, wanted: int) -> int | None:
    """Stride that leaves `wanted` of `size` entries."""
    if wanted in (size, 0):
        return 1 if wanted else None
    fitting = (n for n in (*STRIDES, *range(1, size + 1)) if -(-size // n) == wanted)
    return next(fitting, None)


def prompt_points(prompt: Mapping[str, Any], scale: tuple[float, float]) -> PromptTensors | None:
    """Box and clicks of a prompt, (1, N) in the frame of the encoding; clicks without labels are on the object."""
    corners = np.reshape(prompt.get("box", []), (-1, 2))
    clicks = np.reshape(prompt.get("points", []), (-1, 2))
    xy = np.concatenate([corners, clicks]).astype(np.float64)
    if not len(xy):
        return None
    labels = [*[2, 3][: len(corners)], *prompt.get("labels", [1] * len(clicks))]
    scaled = torch.from_numpy((xy * scale).astype(np.float32))
    return PromptTensors(scaled[None], torch.tensor(labels, dtype=torch.int64)[None])


class Picture:
    """One picture in a model, with the answers to prompts on it.

    Args:
        model: an encoder with heads.
        rgb: uint8 (H, W, 3).
    """

    def __init__(self, model: ImageModel, rgb: np.ndarray) -> None:
        self.model, self.rgb = model, rgb
        self.size_wh = (rgb.shape[1], rgb.shape[0])
        self.features: Features = model.encode(model.preprocess(rgb))

    def candidates(self, prompt: Mapping[str, Any], logits: np.ndarray | None) -> MaskCandidates:
        """What the decoder says to a prompt of the fixtures, and (1, h, w) logits of an earlier mask."""
        points = prompt_points(prompt, prompt_scale(self.size_wh, self.model.spec))
        mask = None if logits is None else torch.from_numpy(logits)[None]
        return self.model.decode(self.features, self.model.embedding(self.features), points, mask)

    def whole(self, low: Tensor) -> Tensor:
        """(N, h, w) logits at the size of the picture."""
        return to_picture(low[None], self.size_wh, self.model.spec)[0]


def values(candidates: MaskCandidates, mode: str) -> tuple[Tensor, Tensor]:
    """(N, h, w) logits and (N,) qualities of a mode of the fixtures."""
    part = MODES[mode]
    return candidates.logits_bnhw[0, part], candidates.quality_bn[0, : candidates.logits_bnhw.shape[1]][part]


def answers(
    picture: Picture,
    place: str,
    prompts: Mapping[str, Mapping[str, Any]],
    fixture: Mapping[str, np.ndarray],
    earlier: Callable[[Mapping[str, Any]], np.ndarray | None],
) -> Iterator[tuple[str, np.ndarray]]:
    """The fixture's entries `<place><prompt>/[<mode>/]<quantity>` of one picture.

    Args:
        picture: the picture.
        place: how the keys begin, e.g. "wide/".
        prompts: by name.
        fixture: whose keys are wanted, and whose shapes say how they are sampled.
        earlier: the logits of the mask that a prompt has, if it has one.
    """
    for name, prompt in prompts.items():
        wanted = [key for key in fixture if key.startswith(f"{place}{name}/")]
        if not wanted:
            continue
        candidates = picture.candidates(prompt, earlier(prompt))
        for key in wanted:
            *modes, quantity = key.removeprefix(f"{place}{name}/").split("/")
            mode = "/".join(modes) or "single"
            if mode not in MODES or quantity not in QUANTITIES:
                continue
            low, quality = values(candidates, mode)
            masks = picture.whole(low) if is_whole(key, fixture) else low
            if quantity in ("low_res", "logits"):
                found = sampled(masks.numpy(), fixture[key].shape)
            elif quantity == "area":
                found = (masks > 0).flatten(1).sum(1).numpy()
            elif quantity == "stability":
                found = stability(low, 1.0).numpy()
            else:
                found = quality.numpy()
            yield key, found


def is_whole(key: str, fixture: Collection[str]) -> bool:
    """Whether an entry is of masks at the size of the picture, not of low-resolution ones."""
    parent, _, quantity = key.rpartition("/")
    return quantity == "logits" or "full" in quantity or (quantity == "area" and f"{parent}/logits" in fixture)


def group1(
    model: ImageModel, fixture: Mapping[str, np.ndarray], pictures: Mapping[str, Any], seeded: ModuleType
) -> dict[str, np.ndarray]:
    """All entries of a `--prompts` or `--pictures` fixture of group 1; `pictures` is its `prompts.json`."""
    found: dict[str, np.ndarray] = {}
    for name, entry in pictures["pictures"].items():
        place = f"{name}/"
        if not any(key.startswith(place) for key in fixture):
            continue
        frame, size, y, x, height, width = entry["crop"]
        rgb = np.ascontiguousarray(seeded.seeded_frame(frame, size)[y : y + height, x : x + width])
        picture = Picture(model, rgb)
        if f"{place}encoder" in fixture:
            found[f"{place}encoder"] = sampled(picture.features.coarse[0].numpy(), fixture[f"{place}encoder"].shape)
        if f"{place}input" in fixture:
            placed = resized(rgb, model.spec)[0].permute(1, 2, 0).numpy()
            found[f"{place}input"] = sampled(placed, fixture[f"{place}input"].shape)
            found[f"{place}input_size"] = np.array(placed.shape[:2])
            found[f"{place}input_sum"] = placed.sum((0, 1), dtype=np.int64)
        mode = "multi" if model.spec.answer == "alternatives" else "single"

        def earlier(
            prompt: Mapping[str, Any], picture: Picture = picture, entry: Any = entry, mode: str = mode
        ) -> Any:
            if "mask" not in prompt:
                return None
            low, _ = values(picture.candidates(entry["prompts"][prompt["mask"]], None), mode)
            return low[:1].numpy()

        found.update(answers(picture, place, entry["prompts"], fixture, earlier))
    return found


def group2(
    model: ImageModel, fixture: Mapping[str, np.ndarray], pictures: Mapping[str, Any], seeded: ModuleType
) -> dict[str, np.ndarray]:
    """All entries of a `--prompts` fixture of group 2; `pictures` is "prompts" of `group2.prompts.json`.

    A picture is a whole frame at the model's own size, with prompts for one of 256 pixels, or part of a frame.
    """
    found: dict[str, np.ndarray] = {}

    def earlier(prompt: Mapping[str, Any]) -> np.ndarray | None:
        logits: np.ndarray | None = seeded.disc_logits(*prompt["disc"]) if "disc" in prompt else None
        return logits

    side = max(model.spec.input_wh)
    for name, entry in pictures.items():
        place = "" if name == "square" and "encoder" in fixture else f"{name}/"  # RWKV-SAM has no other picture
        if not any(key.startswith(place) for key in fixture):
            continue
        whole = "frame" in entry
        picture = Picture(model, seeded.picture(*([entry["frame"], side] if whole else entry["picture"])))
        if (key := f"{place}encoder") in fixture:
            found[key] = sampled(picture.features.coarse[0].numpy(), fixture[key].shape)
        if (key := f"{place}input") in fixture:
            found[key] = to_input(picture.rgb, model.spec, torch.device("cpu"))[0, :, 3::23, 3::23].numpy()
        prompts = {
            key: _scaled(prompt, side / 256) if whole else prompt for key, prompt in entry["prompts"].items()
        }
        found.update(answers(picture, place, prompts, fixture, earlier))
        if stages := [key for key in fixture if key in ("stage1", "stage2", "middle")]:
            maps = model.encoder.stages(model.preprocess(picture.rgb))  # type: ignore[operator]
            found.update((key, sampled(getattr(maps, key)[0].numpy(), fixture[key].shape)) for key in stages)
    return found


def _scaled(prompt: Mapping[str, Any], scale: float) -> dict[str, Any]:
    changed = dict(prompt)
    for key in ("points", "box"):
        if key in prompt:
            changed[key] = (np.asarray(prompt[key], np.float64) * scale).tolist()
    return changed
