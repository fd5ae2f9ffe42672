"""Image models on the fixtures' pictures and prompts: the values that the published predictors put out."""

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samvideo.heads.masks import stability
from samvideo.image_model import ImageModel
from samvideo.pictures import fitted_wh, prompt_scale, resized, to_input, to_picture
from samvideo.tensors import Features, MaskCandidates, PromptTensors

MODES = {"single": slice(0, 1), "multi": slice(1, 4), "all": slice(0, 4)}
STRIDES = (4, 8, 16, 32, 5, 9, 17, 1)


def sampled(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Every n-th row and column, n such that the last two axes have the sizes of the fixture's entry."""
    for stride in STRIDES:
        part = values[..., ::stride, ::stride]
        if part.shape == shape:
            return part
    raise ValueError(f"no sampling of {values.shape} has the shape {shape}")


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
        points = None
        xy = np.asarray([*np.reshape(prompt.get("box", []), (-1, 2)), *prompt.get("points", [])], np.float64)
        if len(xy):
            labels = np.array([*([2, 3] if "box" in prompt else []), *prompt.get("labels", [])], np.int64)
            scaled = (xy * prompt_scale(self.size_wh, self.model.spec)).astype(np.float32)
            points = PromptTensors(torch.from_numpy(scaled)[None], torch.from_numpy(labels)[None])
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
            low, quality = values(candidates, modes[0] if modes else "single")
            whole = picture.whole(low) if place and not place.startswith("square") else low
            if quantity in ("low_res", "logits"):
                found = sampled(whole.numpy(), fixture[key].shape)
            elif quantity == "area":
                found = (whole > 0).flatten(1).sum(1).numpy()
            elif quantity == "stability":
                found = stability(low, 1.0).numpy()
            else:
                found = quality.numpy()
            yield key, found


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
            found[f"{place}encoder"] = picture.features.coarse[0, ::4, ::4, ::4].numpy()
        if f"{place}input" in fixture:
            placed = resized(rgb, model.spec)[0].permute(1, 2, 0).numpy()
            found[f"{place}input"] = sampled(placed.transpose(2, 0, 1), _channels_first(fixture[f"{place}input"]))
            found[f"{place}input"] = found[f"{place}input"].transpose(1, 2, 0)
            found[f"{place}input_size"] = np.array(placed.shape[:2])
            found[f"{place}input_sum"] = placed.sum((0, 1), dtype=np.int64)
            assert fitted_wh(picture.size_wh, model.spec.input_wh[0], model.spec.picture) == placed.shape[1::-1]
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


def _channels_first(values: np.ndarray) -> tuple[int, ...]:
    return values.transpose(2, 0, 1).shape


def group2(
    model: ImageModel, fixture: Mapping[str, np.ndarray], pictures: Mapping[str, Any], seeded: ModuleType
) -> dict[str, np.ndarray]:
    """All entries of a `--prompts` fixture of group 2; `pictures` is "prompts" of `group2.prompts.json`."""
    found: dict[str, np.ndarray] = {}

    def earlier(prompt: Mapping[str, Any]) -> np.ndarray | None:
        logits: np.ndarray | None = seeded.disc_logits(*prompt["disc"]) if "disc" in prompt else None
        return logits

    square, wide = pictures["square"], pictures["wide"]
    side = max(model.spec.input_wh)
    place = "square/" if "square/encoder" in fixture else ""  # RWKV-SAM has no other picture
    picture = Picture(model, seeded.picture(square["frame"], side))
    found[f"{place}encoder"] = picture.features.coarse[0, ::8, ::8, ::4].numpy()
    scale = side / 256
    prompts = {name: _scaled(prompt, scale) for name, prompt in square["prompts"].items()}
    found.update(answers(picture, place, prompts, fixture, earlier))
    if stages := [key for key in fixture if key in ("stage1", "stage2", "middle")]:
        maps = model.encoder.stages(model.preprocess(picture.rgb))  # type: ignore[operator]
        steps = {"stage1": (16, 16, 16), "stage2": (16, 8, 8), "middle": (48, 4, 4)}
        for key in stages:
            a, b, c = steps[key]
            found[key] = getattr(maps, key)[0, ::a, ::b, ::c].numpy()
    if "wide/input" in fixture:
        frame, size, crop = wide["picture"]
        picture = Picture(model, seeded.picture(frame, size, crop))
        found["wide/input"] = to_input(picture.rgb, model.spec, torch.device("cpu"))[0, :, 3::23, 3::23].numpy()
        found.update(answers(picture, "wide/", wide["prompts"], fixture, earlier))
    return found


def _scaled(prompt: Mapping[str, Any], scale: float) -> dict[str, Any]:
    changed = dict(prompt)
    for key in ("points", "box"):
        if key in prompt:
            changed[key] = (np.asarray(prompt[key], np.float64) * scale).tolist()
    return changed
