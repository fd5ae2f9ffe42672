"""Specs, building, loading, recognising."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_sam import clip, picture, randomise, tiny_model

from samvideo.errors import ConfigError, WeightsError
from samvideo.memory.method import MemoryModule
from samvideo.memory.pruning import PruningPolicy
from samvideo.models import VideoModel, build, count_parameters
from samvideo.registry import MEMORY_POLICIES
from samvideo.specs import SPECS, ModelSpec
from samvideo.state_dict import build_spec, load_state, published_shapes, recognise, spec_shapes
from samvideo.tensors import Features, MaskCandidates, MemoryContext, MemoryTokens, PromptTensors
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Mask, Points


def meta_state(name: str) -> dict[str, torch.Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in spec_shapes(SPECS[name]).items()}


def test_specs_are_frozen_and_printable() -> None:
    assert len(SPECS) == 19
    assert "encoder='repvit-m1', memory='perceiver'" in repr(SPECS["edgetam"])
    with pytest.raises(FrozenInstanceError):
        SPECS["edgetam"].layers = 4  # type: ignore[misc]


def test_parameters() -> None:
    with torch.device("meta"):
        assert round(count_parameters(build("edgetam")) / 1e6, 1) == 13.9
        assert round(count_parameters(build("sam2.1-large")) / 1e6) == 224


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("edgetam", ["edgetam"]),
        ("sam2.1-tiny", ["sam2.1-tiny"]),
        ("sam2-small", ["sam2-small", "surgical-sam2-s", "surgical-sam2-s-512"]),
        ("efficienttam-ti-2", [f"efficienttam-ti{x}" for x in ("", "-1", "-2", "-512")]),
    ],
)
def test_recognise(name: str, expected: list[str]) -> None:
    assert recognise(meta_state(name)) == expected
    assert recognise({**meta_state(name), "head.weight": torch.empty(1)}) == []


def test_load_state_names_what_does_not_fit() -> None:
    model = tiny_model()
    state = {key: torch.zeros(shape) for key, shape in published_shapes(model).items()}
    load_state(model, state)
    assert not any(p.any() for p in model.parameters())
    broken = dict(state)
    del broken["sam_mask_decoder.iou_token.weight"]
    broken["no_obj_ptr"] = torch.zeros(1, 128)
    broken["optimizer"] = torch.zeros(1)
    with pytest.raises(WeightsError, match=r"1 missing \(sam_mask_decoder.iou_token.weight\)") as caught:
        load_state(model, broken)
    assert "1 unexpected (optimizer)" in str(caught.value)
    assert "no_obj_ptr is (1, 128) instead of (1, 256)" in str(caught.value)
    assert "no model known here" in str(caught.value)


def test_another_models_weights_are_named() -> None:
    with pytest.raises(WeightsError, match=r"they fit: sam2\.1-tiny"):
        load_state(tiny_model(), meta_state("sam2.1-tiny"))


@pytest.mark.parametrize(
    ("name", "memory", "policy", "size"),
    [
        ("repvit-m1", "pooled", "pruning", 256),
        ("vit-ti", "perceiver", None, (512, 256)),
        ("hiera-tiny", "pooled-2", "fifo", (320, 192)),
        ("edgetam", "plain", "pruning-published", 256),
    ],
)
def test_any_encoder_with_any_memory_and_policy(name: str, memory: str, policy: str | None, size: object) -> None:
    """Untrained weights, two objects, past the point where pooling and pruning begin."""
    torch.manual_seed(0)
    model = build(name, memory=memory, policy=policy, input_size=size)  # type: ignore[arg-type]
    with torch.no_grad():
        model.decoder.pred_obj_score_head.layers[-1].bias.fill_(5.0)
    assert (model.spec.memory, model.spec.policy) == (memory, policy or "fifo")
    tracker = SamTracker(TorchRuntime(model))
    prompts = [Box(object_id=1, xyxy=(10, 5, 40, 30)), Points(object_id=2, xy=[(50, 20)])]
    for frame in clip(9, (90, 40)):
        result = tracker.step(frame, prompts if frame.index == 0 else [])
    assert result.masks.shape == (2, 40, 90)
    assert np.isfinite(result.scores).all()


def test_a_policy_with_options_of_its_own() -> None:
    policy = PruningPolicy(kept=3)
    assert build("vit-ti", policy=policy, input_size=64).policy is policy
    ours = {"consolidated", "d4sm", "dam4sam", "diverse", "fifo", "pruning", "sam2long", "samurai"}
    assert ours <= set(MEMORY_POLICIES.all())


def test_frames_are_squashed_as_published() -> None:
    """Antialiased bicubic on bytes, as Pillow does it for folders of pictures; then mean and deviation."""
    from PIL import Image

    model = tiny_model(size=64)
    rgb = picture(3, (90, 130))
    resized = np.asarray(Image.fromarray(rgb).resize((64, 64)), np.float32) / 255
    expected = (resized - np.array(model.spec.mean)) / np.array(model.spec.std)
    got = model.preprocess(rgb)[0].permute(1, 2, 0).numpy()
    level = 1 / 255 / np.array(model.spec.std)
    assert (np.abs(got - expected) <= 1.01 * level).mean() > 0.995
    assert np.abs(got - expected).max() < 0.15


def test_on_a_cpu_bfloat16_is_for_products_only() -> None:
    """A RepViT: branches are folded in float32, features stay close, and nothing but memory is kept in less."""
    torch.manual_seed(0)
    exact = build("repvit-m1", input_size=64)
    half = build("repvit-m1", input_size=64)
    half.load_state_dict(exact.state_dict())
    frame = clip(1)[0]
    tracker = SamTracker(TorchRuntime(half, dtype="bf16"))
    tracker.step(frame, [Box(object_id=1, xyxy=(10, 5, 40, 30))])
    assert half.mixed
    assert half.dtype == torch.float32
    with torch.inference_mode():
        want, got = (m.encode(m.preprocess(frame.rgb)).coarse for m in (exact, half))
    assert got.dtype == torch.float32
    assert 0 < (want - got).norm() < 0.03 * want.norm()


@pytest.mark.parametrize(
    ("name", "memory"),
    [("nano", None), ("vit-ti", "plain"), ("vit-ti", "pooled-2"), ("repvit-m1", "perceiver"), ("vit-ti", "ridge")],
)
def test_all_parameters_in_bfloat16_as_on_a_gpu(name: str, memory: str | None) -> None:
    model = build(name, memory=memory, input_size=None if name == "nano" else 256)
    runtime = TorchRuntime(model)
    model._convert_all(torch.device("cpu"), torch.bfloat16)
    tracker = SamTracker(runtime)
    for frame in clip(3):
        result = tracker.step(frame, [Box((10, 20, 40, 60)), Points([(20, 30)])] if frame.index == 0 else [])
    assert result.masks.shape[0] == 2
    assert np.isfinite(result.scores).all()


@pytest.mark.parametrize("name", ["repvit-m1", "hiera-tiny", "vit-ti"])
def test_fusing_changes_no_feature(name: str) -> None:
    """Branches, batch norms, and the 1x1 convolutions of the fine maps; twice is once."""
    model = randomise(build(name, input_size=64)).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = model.encode(image)
        after = model.fuse().fuse().encode(image)
    assert len(before.fine) == len(after.fine)
    for a, b in zip(
        (before.coarse, before.self_attended, *before.fine),
        (after.coarse, after.self_attended, *after.fine),
        strict=True,
    ):
        assert a.shape == b.shape
        assert (a - b).norm() < 1e-3 * a.norm()


def test_half_precision_is_refused_on_a_cpu() -> None:
    with pytest.raises(ConfigError, match="fp32 or bf16"):
        tiny_model().convert(torch.device("cpu"), torch.float16)


def last_logits(**changes: object) -> np.ndarray:
    tracker = SamTracker(TorchRuntime(tiny_model(**changes)), logits=True)
    for frame in clip(9, (70, 70)):
        result = tracker.step(frame, [Box(object_id=1, xyxy=(10, 5, 40, 30))] if frame.index == 0 else [])
    assert result.logits is not None
    return result.logits


@pytest.fixture(scope="module")
def unchanged() -> np.ndarray:
    return last_logits()


@pytest.mark.parametrize(
    "change",
    [
        {"memory": "pooled"},
        {"memory": "pooled-2"},
        {"memory": "perceiver"},
        {"policy": "pruning"},
        {"size": (96, 64)},
        {"pointers": False},
        {"pointer_time_encoding": True},
        {"tracking": "single"},
        {"mean": (0.5, 0.5, 0.5)},
        {"std": (0.3, 0.3, 0.3)},
    ],
    ids=str,
)
def test_every_field_of_a_spec_counts(change: dict[str, object], unchanged: np.ndarray) -> None:
    assert not np.allclose(last_logits(**change), unchanged, atol=1e-3)


@torch.inference_mode()
def test_occlusion_embedding() -> None:
    """SAM 2.1 marks the memory of frames where the object is absent."""
    model = tiny_model(occlusion_embedding=True)
    features = model.encode(model.preprocess(picture(0)))
    masks = torch.full((2, 1, 64, 64), -10.0)
    tokens = model.memory.encode(features, masks, torch.tensor([True, False])).features.float()
    assert model.memory.absent is not None
    assert torch.allclose(tokens[1] - tokens[0], model.memory.absent[0].expand(16, -1), atol=0.05)


class Unattended(MemoryModule):
    """The least that a memory can be: the mean of the coarse map within the mask is added to later ones."""

    step = 32

    def __init__(self) -> None:
        super().__init__()
        self.frame_codes = torch.nn.Parameter(torch.zeros(7, 1, 1, 2))
        self.no_memory = torch.nn.Parameter(torch.zeros(1, 256, 1, 1))

    def encode(self, features: Features, masks: torch.Tensor, present: torch.Tensor) -> MemoryTokens:
        assert len(features.fine) == 0 or features.fine[0].shape[-1] == 4 * features.grid[1]
        weights = F.adaptive_avg_pool2d(masks, features.grid).clamp(min=0.01)
        mean = (features.coarse * weights).sum((2, 3)) / weights.sum((2, 3))
        return MemoryTokens(mean[:, None], mean.new_zeros(1, 1, 1), 0, (1, 1))

    def attend(self, features: Features, context: MemoryContext) -> torch.Tensor:
        assert context.features.dtype == torch.float32
        assert context.position.shape == (len(context.features), context.features.shape[1], 1, 2)
        assert context.pointers.shape[1] == 0
        return features.coarse + context.features.mean((1, 2))[..., None, None]

    def without_memory(self, features: Features) -> torch.Tensor:
        return features.coarse + self.no_memory


@pytest.mark.parametrize("static_shapes", [False, True])
def test_a_memory_needs_neither_attention_nor_pointers(static_shapes: bool) -> None:
    """Objects of any age, given masks and corrections are tracked, and go on the same from a saved state."""
    model = tiny_model(pointers=False, tracking="single", answer="single")
    model.memory = Unattended()
    assert not [name for name in model.state_dict() if name.startswith("pointers")]
    one, other = (SamTracker(TorchRuntime(model, static_shapes=static_shapes), logits=True) for _ in range(2))
    mask = Mask(object_id=3, mask=np.hypot(*(np.mgrid[:40, :90] - 20)) < 9)
    prompts = {0: [Box(object_id=1, xyxy=(10, 5, 40, 30))], 2: [mask], 4: [Points(object_id=3, xy=[(50, 20)])]}
    for frame in clip(6, (90, 40)):
        one.step(frame, prompts.get(frame.index, ()))
    other.restore(one.state())
    for frame in clip(8, (90, 40))[6:]:
        assert np.array_equal(one.step(frame).logits, other.step(frame).logits)
    assert one.objects[1].best.known_prediction.pointer.shape == (1, 0)


@torch.inference_mode()
def test_which_mask_answers() -> None:
    """For one click the best alternative; else the first mask, which "stable" replaces where it is unstable."""
    candidates = MaskCandidates(
        torch.tensor([0.01, 1.0, 1.0, 1.0])[None, :, None, None].repeat(1, 1, 4, 4),
        torch.tensor([[0.9, 0.3, 0.8, 0.5]]),
        torch.zeros(1, 4, 0),
        torch.ones(1),
    )
    one, two = (PromptTensors(torch.zeros(1, n, 2), torch.ones(1, n, dtype=torch.long)) for n in (1, 2))
    stable, single = (build_video(answer=answer, tracking="single") for answer in ("stable", "single"))
    for model in (stable, single):
        assert model.is_ambiguous(one)
        assert not model.is_ambiguous(two)
        assert not model.is_ambiguous(None)
        assert int(model.default_choice(candidates, True)[0]) == 2
    assert [int(model.default_choice(candidates, False)[0]) for model in (stable, single)] == [2, 0]
    only = MaskCandidates(*(values[:, :1] for values in candidates[:3]), candidates.presence_b)
    assert int(single.default_choice(only, True)[0]) == 0


def build_video(**changes: object) -> VideoModel:
    with torch.device("meta"):
        return build(ModelSpec("tiny", "vit-ti", input_wh=(64, 64), **changes))  # type: ignore[arg-type]


def test_an_image_model_is_a_model_without_memory() -> None:
    """It proposes masks as the video model without memory does; only a spec with memory makes a video model."""
    spec = ModelSpec("image", "vit-ti", memory=None, input_wh=(64, 64))
    with pytest.raises(ConfigError, match="no memory"):
        build(spec)
    image_model, video_model = build_spec(spec), build(replace(spec, memory="plain"))
    assert not [name for name in image_model.state_dict() if name.startswith(("memory", "pointers"))]
    video_model.load_state_dict(image_model.state_dict(), strict=False)
    points = PromptTensors(torch.tensor([[[20.0, 30.0]]]), torch.tensor([[1]]))
    with torch.inference_mode():
        proposals = []
        for model in (image_model, video_model):
            features = model.encode(model.preprocess(picture(0)))
            proposals.append(model.decode(features, features.coarse, points))
    assert proposals[0].logits_bnhw.shape == (1, 4, 16, 16)
    assert all(torch.equal(a, b) for a, b in zip(*proposals, strict=True))
