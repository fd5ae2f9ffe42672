"""The stages of the bundled model as modules of tensors only, for pictures of any size.

What depends on memory alone, the solution of the target model, is left to `samvideo.deploy.nano_runtime`; of the
affinity, which reads the first frame and the newest only, no others go in.
"""

from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from samvideo.deploy.graphs import FINE, OBJECTS, POINTS, Encode, Graph
from samvideo.deploy.nano_runtime import TARGETS
from samvideo.heads.nano import PROMPT_MAPS, NanoPrompts
from samvideo.heads.prompt_encoder import PADDING
from samvideo.image_model import ImageModel
from samvideo.memory.affinity import Affinity
from samvideo.memory.ridge import LABELS, Ridge
from samvideo.memory.target import CODES, LOCALITY, TargetMemory
from samvideo.models import VideoModel
from samvideo.tensors import Features, MaskCandidates, MaskPrediction, PromptTensors

CANDIDATES = ("logits", "quality", "presence")
ROWS, COLUMNS = "rows", "columns"
"""The axes of the coarse map; those of other maps are multiples of them."""
EXAMPLE_HW = (96, 160)
"""Height and width of the picture that examples are made of."""


class _Stage(nn.Module):
    def __init__(self, model: VideoModel) -> None:
        super().__init__()
        self.model = model

    @property
    def _memory(self) -> TargetMemory:
        assert isinstance(self.model.memory, TargetMemory)
        return self.model.memory

    @cached_property
    def _fixed(self) -> int:
        """Rows of memory whose number does not depend on the picture: those of the target model."""
        return sum(reader.rows(0) for reader in self._memory.readers)  # type: ignore[operator]


class NanoEncode(_Stage):
    """A picture of bytes to maps, with the queries of memory as a map (1, h, w, C)."""

    def __init__(self, model: VideoModel) -> None:
        super().__init__(model)
        self.encode = Encode(model)

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        """Encode a uint8 (1, H, W, 3) picture whose sides are multiples of 16."""
        coarse, embedding, *fine, queries = self.encode(rgb)
        return coarse, embedding, *fine, torch.unflatten(queries, 1, coarse.shape[-2:])


class NanoPrompt(_Stage):
    """Points, and a mask where `masked` is 1, to candidates for one object."""

    def forward(
        self, embedding: Tensor, xy: Tensor, labels: Tensor, mask: Tensor, masked: Tensor, *fine: Tensor
    ) -> tuple[Tensor, ...]:
        """Shapes are those of `ImageModel.decode`, with `masked` (1,) of 0 or 1."""
        model, features = self.model, Features(embedding, fine)
        dense = model.prompts.dense(mask, features.grid) * masked[:, None, None, None]
        # a point that says nothing, so that there are always the two that a box has
        points = PromptTensors(F.pad(xy, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=PADDING))
        maps = model.prompts.points(points, model.input_wh(features))
        return _outputs(model.decoder(embedding + dense, None, maps, fine))


class NanoTrack(_Stage):
    """Memories of B objects to candidates."""

    def forward(
        self,
        coarse: Tensor,
        queries: Tensor,
        first: Tensor,
        newest: Tensor,
        codes: Tensor,
        target_16: Tensor,
        target_8: Tensor,
        *fine: Tensor,
    ) -> tuple[Tensor, ...]:
        """Read the memories of B objects, and decode.

        Args:
            coarse, queries, fine: of the frame.
            first, newest: (B, h, w, C) what these frames left in every cell; the same if there is one frame only.
            codes: (B, 2, 3) temporal codes of both.
            target_16, target_8: (B, c, 16) solutions of the target model at strides 16 and 8.
        """
        memory, grid = self._memory, (coarse.shape[-2], coarse.shape[-1])
        each = torch.split(queries.flatten(1, 2), [r.query_width for r in memory.readers], 2)  # type: ignore[misc]
        cells = torch.stack([first.flatten(1, 2), newest.flatten(1, 2)], 1)
        maps = []
        for reader, query, target in zip(memory.readers, each, (target_16, target_8, None), strict=True):
            if isinstance(reader, Ridge):
                assert target is not None
                maps.append(reader.score(query, target, grid))
            elif isinstance(reader, Affinity):
                maps.append(reader.read(query, cells, codes, grid, padded=False))
        embedding = memory.condition(Features(coarse, fine), maps)
        nothing = F.interpolate(embedding[:, :1] * 0, scale_factor=4.0).expand(-1, PROMPT_MAPS, -1, -1)
        return *_outputs(self.model.decoder(embedding, None, nothing, fine)), embedding


class NanoRemember(_Stage):
    """Masks of B objects to (B, rows, C) sums for the target model, and (B, h, w, C) cells for the affinity."""

    def forward(
        self, coarse: Tensor, queries: Tensor, logits: Tensor, presence: Tensor, binarise: Tensor, *fine: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, 1, H/4, W/4) logits, (B,) object score logits and bool (B,), see `VideoModel.encode_memory`."""
        prediction = MaskPrediction(logits, presence, presence, presence)
        features = Features(coarse, fine, queries.flatten(1, 2))
        tokens = self.model.encode_memory(features, prediction, binarise).features
        return tokens[:, : self._fixed], torch.unflatten(tokens[:, self._fixed :], 1, features.grid)


def _outputs(found: MaskCandidates) -> tuple[Tensor, ...]:
    return found.logits_bnhw, found.quality_bn, found.presence_b


def is_nano(model: ImageModel) -> bool:
    """Whether these are the stages of a model: it has the heads of the bundled one, and its memory."""
    readers = [type(reader) for reader in getattr(getattr(model, "memory", None), "readers", ())]
    prompts: nn.Module = model.prompts
    return isinstance(prompts, NanoPrompts) and readers == [Ridge, Ridge, Affinity]


def nano_graphs(model: VideoModel, objects: int | None = None) -> dict[str, Graph]:
    """The four graphs of a model like the bundled one; see `samvideo.deploy.graphs.graphs_of`."""
    height, width = EXAMPLE_HW
    count = objects or 2
    encode, remember = NanoEncode(model), NanoRemember(model)
    with torch.no_grad():
        rgb = torch.zeros(1, height, width, 3, dtype=torch.uint8)
        coarse, embedding, *fine, queries = encode(rgb)
        masks = {
            "logits": torch.zeros(count, 1, height // 4, width // 4),
            "presence": torch.ones(count),
            "binarise": torch.zeros(count, dtype=torch.bool),
        }
        cells = remember(coarse, queries, *masks.values(), *fine)[1].contiguous()
    maps, sides = dict(zip(FINE, fine, strict=True)), {2: ROWS, 3: COLUMNS}
    points = {"xy": torch.zeros(1, 3, 2), "labels": torch.ones(1, 3, dtype=torch.long)}
    mask = {"mask": masks["logits"][:1], "masked": torch.zeros(1)}
    frame = {"coarse": coarse, "queries": queries}
    past = {"first": cells.clone(), "newest": cells.clone(), "codes": torch.zeros(count, 2, 3)}
    for name, reader in zip(TARGETS, model.memory.readers, strict=False):  # type: ignore[arg-type]
        past[name] = torch.zeros(count, reader.width, LABELS)
    shared = dict.fromkeys(("coarse", "embedding", "mask", *FINE), sides) | {"queries": {1: ROWS, 2: COLUMNS}}
    many: dict[int, str] = {} if objects else {0: OBJECTS}
    each = dict.fromkeys(("presence", "binarise", "codes", *TARGETS), many)
    each |= {"logits": many | sides} | dict.fromkeys(("first", "newest"), many | {1: ROWS, 2: COLUMNS})
    axes = shared | each | {key: {1: POINTS} for key in ("xy", "labels")} | {"rgb": {1: ROWS, 2: COLUMNS}}
    return {
        "encode": Graph(encode, {"rgb": rgb}, ("coarse", "embedding", *FINE, "queries"), axes),
        "prompt": Graph(NanoPrompt(model), {"embedding": embedding} | points | mask | maps, CANDIDATES, axes),
        "track": Graph(NanoTrack(model), frame | past | maps, (*CANDIDATES, "embedding"), axes),
        "remember": Graph(remember, frame | masks | maps, ("sums", "cells"), axes),
    }


def nano_constants(model: VideoModel) -> dict[str, NDArray[Any]]:
    """What is used on the host: temporal codes, the equations of the target model, and a pointer without values."""
    ridges = [r for r in model.memory.readers if isinstance(r, Ridge)]  # type: ignore[union-attr]
    with torch.no_grad():
        return {
            "frame_codes": model.memory.frame_codes[:, 0, 0].numpy(),
            "scaled": np.array([name != LOCALITY for name in CODES]),
            "ridges": torch.stack([r.log_ridge.exp() for r in ridges]).numpy(),
            "widths": np.array([r.width for r in ridges]),
            "labels": np.array(LABELS),
            "absent_pointer": np.zeros(0, np.float32),
        }
