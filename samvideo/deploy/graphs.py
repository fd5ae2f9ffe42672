"""The stages of a `VideoModel` as modules of tensors only, with memories of a fixed capacity.

Every input and output has a name and at most four axes. A graph decides nothing: all masks and pointers that the
decoder proposes come out, and `samvideo.deploy.graph_runtime` chooses among them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samvideo.errors import ConfigError
from samvideo.heads.pointers import PointerHead
from samvideo.memory.method import MemoryMethod
from samvideo.models import VideoModel
from samvideo.tensors import Features, MaskCandidates, MaskPrediction, MemoryContext, MemoryTokens, PromptTensors

CANDIDATES = ("logits", "quality", "pointers", "presence")
FINE = ("fine_4", "fine_8")
"""The maps of strides 4 and 8, of encoders that have them."""
OBJECTS = "objects"
"""The axis of what there is one of for every object."""
POINTS = "points"
"""The axis of the points of a prompt."""


@dataclass(frozen=True)
class Graph:
    """One stage, ready to be exported.

    Attributes:
        module: computes it.
        inputs: an example of each input, by name, in the order of the module's arguments.
        outputs: names.
        axes: names of the axes of variable length, by input.
    """

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    axes: dict[str, dict[int, str]]


class _Stage(nn.Module):
    def __init__(self, model: VideoModel) -> None:
        super().__init__()
        self.model = model

    @property
    def _head(self) -> PointerHead:
        assert self.model.pointers is not None
        return self.model.pointers

    def _candidates(self, found: MaskCandidates) -> tuple[Tensor, ...]:
        """All masks, their quality, the pointer of each, and the object score logit."""
        pointers = self._head.obj_ptr_proj(found.tokens_bnc)
        return found.logits_bnhw, found.quality_bn, pointers, found.presence_b


class Encode(_Stage):
    """A picture of bytes at the model's input size to maps; `embedding` is for prompts without memory."""

    mean: Tensor
    scale: Tensor

    def __init__(self, model: VideoModel) -> None:
        super().__init__(model)
        self.register_buffer("mean", 255 * torch.tensor(model.spec.mean)[:, None, None])
        self.register_buffer("scale", 1 / (255 * torch.tensor(model.spec.std)[:, None, None]))

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        """Encode a uint8 (1, H, W, 3) picture."""
        features = self.model.encode((rgb.permute(0, 3, 1, 2).float() - self.mean) * self.scale)
        assert features.self_attended is not None
        return features.coarse, self.model.embedding(features), *features.fine, features.self_attended


class Prompt(_Stage):
    """Points, and a mask where `masked` is 1, to candidates for one object."""

    def forward(
        self, embedding: Tensor, xy: Tensor, labels: Tensor, mask: Tensor, masked: Tensor, *fine: Tensor
    ) -> tuple[Tensor, ...]:
        """Shapes are those of `ImageModel.decode`, with `masked` (1,) of 0 or 1."""
        model, features = self.model, Features(embedding, fine)
        encoder, grid = model.prompts, features.grid
        dense = torch.where(masked[:, None, None, None] > 0, encoder.dense(mask, grid), encoder.dense(None, grid))
        points = encoder.points(PromptTensors(xy, labels), model.input_wh(features))
        return self._candidates(model.decoder(embedding + dense, encoder.grid_code(grid), points, fine))


class Track(_Stage):
    """Memories of B objects to candidates, and to the embedding for prompts on the same frame.

    Args:
        model: whose memory and decoder are used.
        sample: memory tokens of any frame.
        coarse: of any frame.
    """

    position: Tensor
    coarse: Tensor

    def __init__(self, model: VideoModel, sample: MemoryTokens, coarse: Tensor) -> None:
        super().__init__(model)
        self.register_buffer("position", sample.position)
        self.register_buffer("coarse", torch.zeros_like(coarse[:, :1]))  # tells the size
        self.num_unrotated, self.token_grid = sample.num_unrotated, sample.grid

    def forward(
        self,
        self_attended: Tensor,
        tokens: Tensor,
        code_rows: Tensor,
        frame_scale: Tensor,
        frame_valid: Tensor,
        pointers: Tensor,
        ages: Tensor,
        pointer_scale: Tensor,
        pointer_valid: Tensor,
        *fine: Tensor,
    ) -> tuple[Tensor, ...]:
        """Attend to the memories of B objects, and decode.

        Args:
            self_attended: of the frame.
            tokens: (B, R, N, C).
            code_rows: int64 (B, R) row of the temporal code.
            frame_scale, pointer_scale: (B, R) and (B, P) factors on keys.
            frame_valid, pointer_valid: bool (B, R) and (B, P), False for padding.
            pointers: (B, P, 256).
            ages: (B, P), in units of the policy's span.
            fine: of the frame.
        """
        model, head = self.model, self._head
        codes = model.memory.frame_codes[:, 0, 0][code_rows]
        each = head.width // head.memory_width
        context = MemoryContext(
            features=tokens,
            position=self.position[:, None] + codes[:, :, None],
            num_unrotated=self.num_unrotated,
            grid=self.token_grid,
            pointers=head.tokens(pointers),
            pointer_position=head.age_code(ages, 1),
            frame_scale=frame_scale,
            pointer_scale=pointer_scale.repeat_interleave(each, 1),
            frame_mask=frame_valid,
            pointer_mask=pointer_valid.repeat_interleave(each, 1),
        )
        features = Features(self.coarse, fine, self_attended)
        embedding = model.memory.attend(features, context)
        return *self._candidates(model.decode(features, embedding)), embedding


class Remember(_Stage):
    """Masks of B objects to memory tokens."""

    def forward(self, coarse: Tensor, logits: Tensor, presence: Tensor, binarise: Tensor) -> Tensor:
        """(B, 1, H/4, W/4) logits, (B,) object score logits and bool (B,), see `VideoModel.encode_memory`."""
        prediction = MaskPrediction(logits, presence, presence, presence)
        return self.model.encode_memory(Features(coarse, ()), prediction, binarise).features


def graphs_of(model: VideoModel, objects: int | None = None) -> dict[str, Graph]:
    """The four graphs of a model in float32 on the CPU; afterwards its memory tokens are float32 as well.

    Args:
        model: fused.
        objects: number of objects of `track` and `remember`; None for any.

    Raises:
        ConfigError: the model has windows, no pointers, or a memory of another kind.
    """
    memory, spec = model.memory, model.spec
    if not isinstance(memory, MemoryMethod) or model.pointers is None or spec.window is not None:
        raise ConfigError(
            f"{spec.name!r} cannot be exported: models with the memory attention and the object pointers of SAM 2 "
            "can, such as edgetam, and nano"
        )
    memory.token_dtype = torch.float32
    width, height = spec.input_wh
    count = objects or 2
    with torch.no_grad():
        rgb = torch.zeros(1, height, width, 3, dtype=torch.uint8)
        coarse, embedding, *fine, self_attended = Encode(model)(rgb)
        logits, score = torch.zeros(count, 1, height // 4, width // 4), torch.ones(count)
        binarise = torch.zeros(count, dtype=torch.bool)
        sample = model.encode_memory(Features(coarse, ()), MaskPrediction(logits, score, score, score), binarise)
    maps = dict(zip(FINE, fine, strict=False))
    prompt = {"embedding": embedding, "xy": torch.zeros(1, 3, 2), "labels": torch.ones(1, 3, dtype=torch.long)}
    prompt |= {"mask": logits[:1], "masked": torch.zeros(1)}
    bank = _bank(sample, model.policy.capacity, model.pointers.width)
    masks = {"logits": logits, "presence": score, "binarise": binarise}
    track = Track(model, sample, coarse)
    many, whole = {} if objects else {0: OBJECTS}, ("coarse", "embedding", *maps, "self_attended")
    points = {1: POINTS}
    return {
        "encode": Graph(Encode(model), {"rgb": rgb}, whole, {}),
        "prompt": Graph(Prompt(model), prompt | maps, CANDIDATES, {"xy": points, "labels": points}),
        "track": Graph(
            track,
            {"self_attended": self_attended} | bank | maps,
            (*CANDIDATES, "embedding"),
            dict.fromkeys(bank, many),
        ),
        "remember": Graph(Remember(model), {"coarse": coarse} | masks, ("tokens",), dict.fromkeys(masks, many)),
    }


def _bank(sample: MemoryTokens, capacity: tuple[int, int], width: int) -> dict[str, Tensor]:
    """Full memories of as many objects as there are in `sample`, with pointers of `width`."""
    frames, pointers = ((len(sample.features), size) for size in capacity)
    return {
        "tokens": sample.features[:, None].expand(-1, capacity[0], -1, -1).clone(),
        "code_rows": torch.zeros(frames, dtype=torch.long),
        "frame_scale": torch.ones(frames),
        "frame_valid": torch.ones(frames, dtype=torch.bool),
        "past_pointers": torch.zeros(*pointers, width),
        "ages": torch.zeros(pointers),
        "pointer_scale": torch.ones(pointers),
        "pointer_valid": torch.ones(pointers, dtype=torch.bool),
    }
