"""Models of the SAM 2 family: an encoder, heads and a memory, put together as a `ModelSpec` says.

Building never touches network or disk.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo import registry
from samvideo.encoders.base import ImageEncoder, check_multiple
from samvideo.errors import ConfigError, WeightsError
from samvideo.heads.masks import MaskDecoder, upsample
from samvideo.heads.pointers import PointerHead
from samvideo.heads.prompts import PADDING, PromptEncoder
from samvideo.memory.base import MemoryMethod, MemoryPolicy, Recall
from samvideo.tensors import Features, MaskPrediction, MemoryContext, MemoryTokens, PromptTensors
from samvideo.types import UInt8Array
from samvideo.weights import keys

ABSENT_LOGIT = -1024.0
MEMORY_SCALE, MEMORY_BIAS = 20.0, -10.0
"""Masks go into memory as 20 m - 10, m in [0, 1]; given masks become logits likewise."""


@dataclass(frozen=True)
class ModelSpec:
    """All that tells one model from another; stored in every report.

    Attributes:
        name: what users call it; published checkpoints have the names of `SPECS`.
        encoder: variant of an encoder, see `encoders()`.
        memory: variant of a memory method, see `memory_methods()`.
        policy: variant of a memory policy, see `memory_policies()`, or a policy with options of its own.
        input_wh: size to which frames are squashed, width and height in pixels.
        layers: of the memory attention.
        absent_code: whether the memory of frames without the object carries a learned code (SAM 2.1).
        pointer_ages: whether object pointers carry a code of their age (SAM 2.1).
        mean, deviation: of the pictures the encoder was trained on, RGB in [0, 1].
    """

    name: str
    encoder: str
    memory: str = "plain"
    policy: str | MemoryPolicy = "fifo"
    input_wh: tuple[int, int] = (1024, 1024)
    layers: int = 4
    absent_code: bool = False
    pointer_ages: bool = False
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    deviation: tuple[float, float, float] = (0.229, 0.224, 0.225)


def _specs() -> dict[str, ModelSpec]:
    small = (512, 512)
    sizes = ("tiny", "small", "base-plus", "large")
    specs = [ModelSpec(f"sam2.1-{s}", f"hiera-{s}", absent_code=True, pointer_ages=True) for s in sizes]
    specs += [ModelSpec(f"sam2-{s}", f"hiera-{s}") for s in sizes]
    for size in ("s", "ti"):
        name = f"efficienttam-{size}"
        specs.append(ModelSpec(name, f"vit-{size}"))
        specs.append(ModelSpec(f"{name}-1", f"vit-{size}", memory="pooled"))
        specs.append(ModelSpec(f"{name}-2", f"vit-{size}", memory="pooled-2"))
        specs.append(ModelSpec(f"{name}-512", f"vit-{size}", input_wh=small))
    specs.append(ModelSpec("edgetam", "repvit-m1", memory="perceiver", layers=2))
    surgical = ModelSpec("surgical-sam2-s", "hiera-small", policy="pruning")
    specs += [surgical, replace(surgical, name="surgical-sam2-s-512", input_wh=small)]
    return {spec.name: spec for spec in specs}


SPECS = _specs()
"""The published models by name."""


class SamModel(nn.Module):
    """The networks and nothing else: what was seen before is handed in, nothing is kept between calls.

    Args:
        spec: what to build; its policy is at hand as `policy`.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder: ImageEncoder = registry.ENCODERS.build(spec.encoder)
        self.memory: MemoryMethod = registry.MEMORY_METHODS.build(
            spec.memory, layers=spec.layers, absent_code=spec.absent_code
        )
        self.policy = resolve_policy(spec.policy)
        check_multiple(spec.input_wh, self.encoder.step, f"encoder {spec.encoder!r}")
        check_multiple(spec.input_wh, self.memory.step, f"memory {spec.memory!r}")
        self.prompts = PromptEncoder()
        self.decoder = MaskDecoder(self.encoder.fine)
        self.pointers = PointerHead(spec.pointer_ages)
        self.mixed = False

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.memory.no_memory.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the parameters."""
        return self.memory.no_memory.dtype

    def fuse(self) -> "SamModel":
        """Fold layers for inference, in place, once weights are loaded: the published keys are gone then."""
        if self.encoder.fuse(self.decoder.fine_convs()):
            self.decoder.hand_over_fine()
        return self

    def convert(self, device: torch.device, dtype: torch.dtype) -> "SamModel":
        """Move to a device and number format, in place; convolutions get their weights channels-last.

        On a CPU, bfloat16 means that encoder and memory, where nearly all the work is, multiply in it; parameters,
        sums of layers, the decoder and all that is kept (but memory) stay float32. Elsewhere all is converted but
        the frequencies of the point code: in bfloat16 a click would be off by several pixels.

        Raises:
            ConfigError: float16 on a CPU, where it is about a thousand times slower than float32.
        """
        if device.type == "cpu" and dtype == torch.float16:
            raise ConfigError("float16 is not usable on a CPU (about 1000 times slower): choose fp32 or bf16")
        self.mixed = device.type == "cpu" and dtype == torch.bfloat16
        self.to(device, torch.float32 if self.mixed else dtype).to(memory_format=torch.channels_last)
        self.prompts.pe_layer.float()
        if self.mixed:  # autocast would convert them anew on every frame
            for layer in (*self.encoder.modules(), *self.memory.modules()):
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    layer.to(torch.bfloat16)
        return self

    def _multiplying(self) -> AbstractContextManager[None]:
        """Where encoder and memory compute."""
        return torch.autocast("cpu", torch.bfloat16) if self.mixed else nullcontext()

    def _upload(self, values: Tensor) -> Tensor:
        """To the model's device; a GPU's queue of work is not waited for, as it would be by default."""
        return values.to(self.device, non_blocking=True)

    def picture(self, rgb: UInt8Array) -> Tensor:
        """Squash a uint8 (H, W, 3) frame to the input size and normalise it: (1, 3, H, W).

        The filter is the published video loader's for folders of pictures: antialiased bicubic on bytes.
        """
        image = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None]
        width, height = self.spec.input_wh
        if image.shape[-2:] != (height, width):
            image = F.interpolate(image, size=(height, width), mode="bicubic", antialias=True, align_corners=False)
        image = self._upload(image).float() / 255
        mean, deviation = (
            self._upload(torch.tensor(x)[:, None, None]) for x in (self.spec.mean, self.spec.deviation)
        )
        return ((image - mean) / deviation).to(self.dtype, memory_format=torch.channels_last)

    def encode(self, image_bchw: Tensor) -> Features:
        """Features of one normalised picture (1, 3, H, W)."""
        with self._multiplying():
            coarse, fine = self.encoder(image_bchw)
            fine = self.decoder.project(fine)
            begun = self.memory.begin(coarse)
        return Features(coarse.to(self.dtype), tuple(x.to(self.dtype) for x in fine), begun)

    def condition(self, features: Features, recalls: Sequence[Recall]) -> Tensor:
        """(B, 256, h, w): the features in the light of B objects' memories, which must have equal shapes.

        Objects that remember no frame get the learned stand-in for memory.
        """
        if not recalls[0].frames:
            return self.memory.without_memory(features).expand(len(recalls), -1, -1, -1)
        with self._multiplying():
            return self.memory.attend(features, self._context(recalls)).to(self.dtype)

    def _context(self, recalls: Sequence[Recall]) -> MemoryContext:
        sample = recalls[0].frames[0][1]
        rows = self._upload(torch.tensor([[row for row, _ in r.frames] for r in recalls]))
        ages = self._upload(torch.tensor([[float(age) for age, _ in r.pointers] for r in recalls]))
        codes = self.memory.frame_codes[:, 0, 0][rows]
        pointers = [torch.stack([p for _, p in r.pointers], 1) for r in recalls if r.pointers]
        joined = torch.cat(pointers) if pointers else self.pointers.no_obj_ptr.new_zeros(len(recalls), 0, 256)
        return MemoryContext(
            features=torch.stack([torch.cat([t.features for _, t in r.frames]) for r in recalls]).to(self.dtype),
            position=sample.position[:, None] + codes[:, :, None],
            plain=sample.plain,
            grid=sample.grid,
            pointers=self.pointers.tokens(joined),
            pointer_position=self.pointers.age_code(ages, self.policy.pointer_span),
        )

    def decode(
        self,
        features: Features,
        conditioned: Tensor,
        points: PromptTensors | None = None,
        mask_logits: Tensor | None = None,
    ) -> MaskPrediction:
        """Masks of B objects on one frame.

        Args:
            features: of the frame.
            conditioned: (B, 256, h, w) from `condition`.
            points: clicks in pixels of the input; none when tracking.
            mask_logits: (B, 1, 4 h, 4 w) earlier logits that the clicks correct.
        """
        batch = conditioned.shape[0]
        # one click is ambiguous, and so is tracking: three masks are weighed against each other
        alternatives = mask_logits is None if points is None else points.labels.shape[1] <= 1
        if points is None:
            nothing = torch.zeros(batch, 1, 2, device=conditioned.device)
            points = PromptTensors(nothing, torch.full((batch, 1), PADDING, device=nothing.device))
        decoded = self.decoder(
            conditioned + self.prompts.dense(mask_logits, features.grid),
            self.prompts.grid_code(features.grid),
            self.prompts.points(points, self.spec.input_wh),
            features.fine,
            alternatives,
        )
        present = decoded.presence > 0
        logits = torch.where(present[:, None, None, None], decoded.logits, ABSENT_LOGIT)
        return MaskPrediction(logits, decoded.quality, self.pointers(decoded.token, present), decoded.presence)

    def adopt(self, features: Features, masks: Tensor) -> MaskPrediction:
        """Take given masks, (B, 1, H, W) of 0 or 1 at input size, as the answer; the decoder adds the pointer."""
        masks = masks.to(self.dtype)
        decoded = self.decode(
            features,
            features.coarse.expand(len(masks), -1, -1, -1),
            mask_logits=self.pointers.mask_downsample(masks),
        )
        height, width = masks.shape[-2:]
        logits = F.interpolate(
            masks.float() * MEMORY_SCALE + MEMORY_BIAS,
            size=(height // 4, width // 4),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        present = masks.flatten(1).any(1)
        pointer = self.pointers.where_present(decoded.pointer, present)
        presence = present * MEMORY_SCALE + MEMORY_BIAS
        return MaskPrediction(logits, torch.ones_like(presence), pointer, presence)

    def remember(self, features: Features, prediction: MaskPrediction, prompted: Tensor) -> MemoryTokens:
        """Memory of the frame for B objects; the masks of prompted ones, (B,) bool, are made binary first."""
        width, height = self.spec.input_wh
        logits = upsample(prediction.logits, (height, width))
        masks = torch.where(prompted[:, None, None, None], (logits > 0).float(), logits.sigmoid())
        with self._multiplying():
            return self.memory.encode(features.coarse, masks * MEMORY_SCALE + MEMORY_BIAS, prediction.presence > 0)


def encoders() -> list[str]:
    """Names of all encoders that can be built."""
    return list(registry.ENCODERS.all())


def memory_methods() -> list[str]:
    """Names of all memory methods that can be built."""
    return list(registry.MEMORY_METHODS.all())


def memory_policies() -> list[str]:
    """Names of all memory policies."""
    return list(registry.MEMORY_POLICIES.all())


def resolve_policy(policy: str | MemoryPolicy) -> MemoryPolicy:
    """The policy of a name; a policy is returned as it is."""
    if isinstance(policy, str):
        built: MemoryPolicy = registry.MEMORY_POLICIES.build(policy)
        return built
    return policy


def find_spec(name: str) -> ModelSpec:
    """The spec of a published model or, for the name of an encoder, of that encoder with plain memory.

    Raises:
        ConfigError: there is neither.
    """
    if name in SPECS:
        return SPECS[name]
    if name not in encoders():
        raise ConfigError(f"no model or encoder is called {name!r}; there are: {', '.join([*SPECS, *encoders()])}")
    return ModelSpec(name, name)


def build(
    spec: ModelSpec | str,
    *,
    memory: str | None = None,
    policy: str | MemoryPolicy | None = None,
    input_size: int | tuple[int, int] | None = None,
) -> SamModel:
    """A model with untrained weights, in evaluation mode.

    Args:
        spec: a spec, the name of a published model, or of an encoder (combined with plain memory).
        memory, policy: other than the spec's.
        input_size: side of the square, or (width, height), to which frames are squashed.

    Raises:
        ConfigError: unknown names, or parts that do not suit the input size.
    """
    spec = find_spec(spec) if isinstance(spec, str) else spec
    changes: dict[str, object] = {}
    if memory is not None and memory != spec.memory:
        changes |= {"memory": memory}
    if policy is not None:
        changes |= {"policy": policy}
    if input_size is not None:
        changes |= {"input_wh": (input_size, input_size) if isinstance(input_size, int) else input_size}
    return SamModel(replace(spec, **changes)).eval()  # type: ignore[arg-type]


def count_parameters(model: nn.Module) -> int:
    """Number of learned values."""
    return sum(p.numel() for p in model.parameters())


def count_spec_parameters(spec: ModelSpec) -> int:
    """Number of learned values that a spec asks for; no memory is taken."""
    with torch.device("meta"):
        return count_parameters(SamModel(spec))


def load_state(model: SamModel, state: Mapping[str, Tensor]) -> None:
    """Load published weights into a model that is not fused yet; all of them or none.

    Args:
        model: built for the same checkpoint.
        state: by the publishers' names or, for the hub's safetensors, by those of Hugging Face transformers.

    Raises:
        WeightsError: missing, unexpected or wrong-shaped entries, by the names of the file.
    """
    names = published_shapes(model)
    state = keys.from_hub(state) if keys.is_hub(state) else dict(state)
    missing = sorted(set(names) - set(state) - set(keys.UNUSED))
    unexpected = sorted(set(state) - set(names))
    wrong = [
        f"{key} is {tuple(state[key].shape)} instead of {names[key]}"
        for key in sorted(set(names) & set(state))
        if tuple(state[key].shape) != names[key]
    ]
    if missing or unexpected or wrong:
        told = [
            f"{len(x)} {what} ({', '.join(x[:3])}{', ...' if len(x) > 3 else ''})"
            for what, x in (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
            if x
        ]
        raise WeightsError(
            f"these weights are not those of {model.spec.name!r}: {'; '.join(told)}. "
            f"By keys and shapes they fit: {', '.join(recognise(state)) or 'no model known here'}"
        )
    own = {ours: state[theirs] for theirs, ours in ((keys.published(k), k) for k in model.state_dict())}
    model.load_state_dict(own)


def recognise(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the published models whose checkpoints have these keys and shapes.

    Weights do not tell how they are to be used: models that differ only in input size, pooling or policy share
    their shapes (efficienttam-s, -s-1, -s-2 and -s-512; sam2-small and both surgical-sam2). The plainest comes
    first; where there are several, the user says which, or gets the first.
    """
    state = keys.from_hub(state) if keys.is_hub(state) else state
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    return [name for name, spec in SPECS.items() if spec_shapes(spec) == keys.UNUSED | shapes]


def spec_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Key and shape of every entry of the checkpoint of a spec, by the publishers' names; no memory is taken."""
    with torch.device("meta"):
        return published_shapes(SamModel(spec))


def published_shapes(model: SamModel) -> dict[str, tuple[int, ...]]:
    """Key and shape of every entry of the checkpoint of a model, by the publishers' names."""
    shapes = {keys.published(key): tuple(value.shape) for key, value in model.state_dict().items()}
    return shapes | keys.UNUSED
