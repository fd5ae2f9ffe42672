"""Video models of the SAM family, and building models from a `ModelSpec`.

All are pure networks: nothing is kept between calls. Building never touches network or disk.
"""

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo import registry
from samvideo.encoders.base import check_multiple
from samvideo.errors import ConfigError
from samvideo.heads.masks import best_alternative, single_if_stable, upsample
from samvideo.heads.pointers import PointerHead
from samvideo.image_model import ImageModel
from samvideo.memory.base import MemoryPolicy
from samvideo.memory.method import MemoryModule
from samvideo.memory_context import memory_context
from samvideo.policies import parse_policy
from samvideo.runtime import SelectedMemory
from samvideo.specs import BUNDLED, IMAGE_SPECS, SPECS, ModelSpec
from samvideo.tensors import Features, MaskCandidates, MaskPrediction, MemoryTokens, PromptTensors
from samvideo.weights import keys

STRIDE = 16
"""Of the map that memory is made of, and attends from."""
ABSENT_LOGIT = -1024.0
MEMORY_SCALE, MEMORY_BIAS = 20.0, -10.0
"""Masks go into memory as 20 m - 10, m in [0, 1]; given masks become logits likewise."""


class VideoModel(ImageModel):
    """An image model with a memory.

    Args:
        spec: what to build; its policy is available as `policy`.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        if spec.memory is None:
            raise ConfigError(f"{spec.name!r} is an image model: it has no memory to track with")
        self.memory: MemoryModule = registry.MEMORY_METHODS.build(
            spec.memory,
            layers=spec.layers,
            occlusion_embedding=spec.occlusion_embedding,
            fine_widths=self.decoder.projected_widths,
        )
        check_multiple(spec.input_wh, self.memory.step, f"memory {spec.memory!r}")
        self.step = math.lcm(self.step, self.memory.step)
        if self.encoder.stride != STRIDE:
            raise ConfigError(
                f"encoder {spec.encoder!r} makes a map of stride {self.encoder.stride}: memory needs one of stride "
                f"{STRIDE}"
            )
        self.policy = self._resolved(spec.policy)
        self.pointers = PointerHead(spec.pointer_time_encoding) if spec.pointers else None

    def with_policy(self, policy: str | MemoryPolicy) -> "VideoModel":
        """The same network, not a copy of it, with another policy."""
        other = copy(self)
        other.policy = self._resolved(policy)
        return other

    def _resolved(self, wanted: str | MemoryPolicy) -> MemoryPolicy:
        """The policy; ConfigError if the memory method is not made for it."""
        policy = resolve_policy(wanted)
        if policy.merges_tokens and not self.memory.mergeable:
            raise ConfigError(
                f"policy {wanted!r} merges the tokens of several frames, and those of memory {self.spec.memory!r} "
                "cannot be merged: take policy 'diverse', or memory 'plain', 'pooled' or 'perceiver'"
            )
        return policy

    def fuse(self) -> "VideoModel":
        """See `ImageModel.fuse`."""
        super().fuse()
        return self

    def convert(self, device: torch.device, dtype: torch.dtype) -> "VideoModel":
        """See `ImageModel.convert`."""
        super().convert(device, dtype)
        return self

    def published(self, own: str) -> str:
        """See `ImageModel.published`."""
        return own if self.name in BUNDLED else keys.published(own)

    @property
    def unused(self) -> Mapping[str, tuple[int, ...]]:
        """See `ImageModel.unused`."""
        return {} if self.name in BUNDLED else keys.UNUSED

    def _mixed_parts(self) -> Sequence[nn.Module]:
        return (self.encoder, self.memory)

    def _self_attend(self, features: Features) -> Tensor | None:
        return self.memory.self_attend(features)

    def embedding(self, features: Features) -> Tensor:
        """(1, 256, h, w): the features with the learned stand-in for memory."""
        return self.memory.without_memory(features)

    def attend_to_memory(
        self, features: Features, memories: Sequence[SelectedMemory], capacity: tuple[int, int] | None = None
    ) -> Tensor:
        """(B, 256, h, w): the features conditioned on B objects' memories.

        Args:
            features: of the frame.
            memories: of equal shapes, unless there is a capacity; all with frames, or all without.
            capacity: pad every memory to so many frames and pointers, and mask the padding: exact, of one shape.
        """
        if not memories[0].frames:
            return self.embedding(features).expand(len(memories), -1, -1, -1)
        with self._autocast():
            context = memory_context(self.memory, self.pointers, memories, self.policy.pointer_span, capacity)
            return self.memory.attend(features, context).to(self.dtype)

    def is_ambiguous(self, points: PromptTensors | None, mask_logits: Tensor | None = None) -> bool:
        """Whether the decoder's three alternatives are to be weighed against each other: one click, or tracking."""
        if points is None:
            return mask_logits is None and self.spec.tracking == "alternatives"
        return points.labels.shape[1] <= 1

    def default_choice(self, candidates: MaskCandidates, ambiguous: bool) -> tuple[Tensor, Tensor]:
        """(B,) indices of the published choice: of the mask, and of the token for the pointer."""
        first = torch.zeros_like(candidates.presence_b, dtype=torch.long)
        if candidates.quality_bn.shape[1] == 1:
            return first, first
        if ambiguous:
            best = best_alternative(candidates)
            return best, best
        return single_if_stable(candidates) if self.spec.answer == "stable" else first, first

    def predict(
        self,
        features: Features,
        embedding: Tensor,
        points: PromptTensors | None = None,
        mask_logits: Tensor | None = None,
    ) -> MaskPrediction:
        """`decode`, then choose as published."""
        candidates = self.decode(features, embedding, points, mask_logits)
        return self.choose(candidates, *self.default_choice(candidates, self.is_ambiguous(points, mask_logits)))

    def choose(
        self, candidates: MaskCandidates, mask_b: Tensor, token_b: Tensor, presence_threshold: float = 0.0
    ) -> MaskPrediction:
        """Turn candidates into predictions.

        Args:
            candidates: of B objects.
            mask_b: (B,) index of each object's mask.
            token_b: (B,) index of the token from which its pointer is made.
            presence_threshold: objects are absent where their presence is not above it.
        """
        rows = torch.arange(len(mask_b), device=mask_b.device)
        present = candidates.presence_b > presence_threshold
        logits = candidates.logits_bnhw[rows, mask_b][:, None]
        pointer = logits.new_zeros(len(rows), 0)
        if self.pointers is not None:
            pointer = self.pointers(candidates.tokens_bnc[rows, token_b], present)
        return MaskPrediction(
            torch.where(present[:, None, None, None], logits, ABSENT_LOGIT),
            candidates.quality_bn[rows, mask_b],
            pointer,
            candidates.presence_b,
        )

    def use_mask_as_output(self, features: Features, masks: Tensor) -> MaskPrediction:
        """Take given masks, (B, 1, H, W) of 0 or 1 at input size, as predictions; the decoder adds the pointer."""
        masks = masks.to(self.dtype)
        height, width = masks.shape[-2:]
        logits = F.interpolate(
            masks.float() * MEMORY_SCALE + MEMORY_BIAS,
            size=(height // 4, width // 4),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        present = masks.flatten(1).any(1)
        pointer = logits.new_zeros(len(masks), 0)
        if self.pointers is not None:
            embedding = features.coarse.expand(len(masks), -1, -1, -1)
            decoded = self.predict(features, embedding, mask_logits=self.pointers.mask_downsample(masks))
            pointer = self.pointers.where_present(decoded.pointer, present)
        presence = present * MEMORY_SCALE + MEMORY_BIAS
        return MaskPrediction(logits, torch.ones_like(presence), pointer, presence)

    def encode_memory(self, features: Features, prediction: MaskPrediction, binarise: Tensor) -> MemoryTokens:
        """Memory of the frame for B objects; where (B,) bool `binarise` is set, the mask is made binary first."""
        width, height = self.input_wh(features)
        logits = upsample(prediction.logits, (height, width))
        masks = torch.where(binarise[:, None, None, None], (logits > 0).float(), logits.sigmoid())
        with self._autocast():
            return self.memory.encode(features, masks * MEMORY_SCALE + MEMORY_BIAS, prediction.presence > 0)


def encoders() -> list[str]:
    """Names of all encoders that can be built."""
    return list(registry.ENCODERS.all())


def resolve_policy(policy: str | MemoryPolicy) -> MemoryPolicy:
    """The policy of a name with options, see `parse_policy`; a policy is returned as it is."""
    return parse_policy(policy) if isinstance(policy, str) else policy


def find_spec(name: str) -> ModelSpec:
    """The spec of a published video model or, for the name of an encoder, of that encoder with plain memory.

    Raises:
        ConfigError: there is neither.
    """
    if name in SPECS or name in BUNDLED:
        return (SPECS | BUNDLED)[name]
    if name in IMAGE_SPECS and name not in encoders():
        encoder = IMAGE_SPECS[name].encoder.removesuffix("-dense")  # whose maps have the stride of memory
        instead = f"take its encoder {encoder!r} with a memory, or use it" if encoder in encoders() else "use it"
        raise ConfigError(
            f"{name!r} is an image model: it has no memory to track with; {instead} as the segmenter of first masks"
        )
    if name not in encoders():
        raise ConfigError(f"no model or encoder is called {name!r}; there are: {', '.join([*SPECS, *encoders()])}")
    return ModelSpec(name, name)


def build(
    spec: ModelSpec | str,
    *,
    memory: str | None = None,
    policy: str | MemoryPolicy | None = None,
    input_size: int | tuple[int, int] | None = None,
) -> VideoModel:
    """A model with untrained weights, in evaluation mode.

    Args:
        spec: a spec, the name of a published model, or of an encoder (combined with plain memory).
        memory, policy: other than the spec's.
        input_size: side of the square, or (width, height), to which frames are resized.

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
    return VideoModel(replace(spec, **changes)).eval()  # type: ignore[arg-type]


def count_parameters(model: nn.Module) -> int:
    """Number of learned values."""
    return sum(p.numel() for p in model.parameters())
