"""An image model of the SAM family: an encoder with the heads of SAM, without memory."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from samvideo import registry
from samvideo.encoders.base import ImageEncoder, check_multiple
from samvideo.errors import ConfigError
from samvideo.heads.masks import MaskDecoder
from samvideo.heads.prompt_encoder import PromptEncoder
from samvideo.nn.position import FourierPosition
from samvideo.picture_sizes import spec_for
from samvideo.pictures import to_input
from samvideo.specs import ModelSpec
from samvideo.tensors import Features, MaskCandidates, PromptTensors
from samvideo.types import UInt8Array, image_wh


class ImageModel(nn.Module):
    """Encoder, prompt encoder and mask decoder.

    Args:
        spec: what to build.

    Attributes:
        step: input height and width are multiples of this.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder: ImageEncoder = registry.ENCODERS.build(spec.encoder)
        check_multiple(spec.input_wh, self.encoder.step, f"encoder {spec.encoder!r}")
        fine_widths = self.encoder.fine_widths if self.encoder.fine else None
        heads: tuple[PromptEncoder, MaskDecoder] = registry.HEADS.build(spec.heads, fine_widths=fine_widths)
        self.prompts, self.decoder = heads
        self.step = self.encoder.step
        self.mixed = self.fused = False
        if spec.window is not None:
            check_multiple((spec.window, spec.window), self.encoder.step, f"a window of encoder {spec.encoder!r}")
            if spec.picture.fit == "pad" or spec.picture.prompt_side is not None:
                raise ConfigError(
                    f"windows need pictures without padding and prompts in pixels of the input: {spec}"
                )

    @property
    def name(self) -> str:
        """The spec's."""
        return self.spec.name

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.decoder.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the parameters."""
        return next(self.decoder.parameters()).dtype

    def published(self, own: str) -> str:
        """Name in the published checkpoint of an entry of the state dict."""
        part, name = own.split(".", 1)
        prefix = dict(zip(("encoder", "prompts", "decoder"), self.spec.prefixes, strict=True))[part]
        published: str = getattr(self, part).published(name)
        return prefix + published

    @property
    def unused(self) -> Mapping[str, tuple[int, ...]]:
        """Entries of the published checkpoint that inference does not read, with their shapes."""
        return {self.spec.prefixes[0] + name: shape for name, shape in self.encoder.unused.items()}

    def fuse(self) -> "ImageModel":
        """Fold layers for inference, once, in place, after loading weights: the published keys are gone then."""
        if not self.fused and self.encoder.fuse(self.decoder.fine_convs()):
            self.decoder.hand_over_fine()
        self.fused = True
        return self

    def convert(self, device: torch.device, dtype: torch.dtype) -> "ImageModel":
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
        self._convert_all(device, torch.float32 if self.mixed else dtype)
        if self.mixed:  # autocast would convert them on every frame
            for layer in (layer for part in self._mixed_parts() for layer in part.modules()):
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    layer.to(torch.bfloat16)
        return self

    def _convert_all(self, device: torch.device, dtype: torch.dtype) -> None:
        self.to(device, dtype).to(memory_format=torch.channels_last)
        for layer in self.prompts.modules():
            if isinstance(layer, FourierPosition):
                layer.float()

    def _mixed_parts(self) -> Sequence[nn.Module]:
        """What multiplies in bfloat16 on a CPU."""
        return (self.encoder,)

    def _autocast(self) -> AbstractContextManager[None]:
        """Precision of encoder and memory."""
        return torch.autocast("cpu", torch.bfloat16) if self.mixed else nullcontext()

    def spec_for(self, size_wh: tuple[int, int]) -> ModelSpec:
        """The spec for pictures of one size; see `samvideo.picture_sizes.spec_for`."""
        return spec_for(self.spec, size_wh, self.step)

    def preprocess(self, rgb: UInt8Array) -> Tensor:
        """A uint8 (H, W, 3) picture as the model's input, (1, 3, H, W); see `samvideo.pictures.to_input`."""
        image = to_input(rgb, self.spec_for(image_wh(rgb)), self.device)
        return image.to(self.dtype, memory_format=torch.channels_last)

    def input_wh(self, features: Features) -> tuple[int, int]:
        """Width and height of the input that features were made of."""
        height, width = features.grid
        return self.encoder.stride * width, self.encoder.stride * height

    def encode(self, image_bchw: Tensor) -> Features:
        """Features of one normalised image (1, 3, H, W), or of B for an object each."""
        with self._autocast():
            coarse, fine = self.encoder(image_bchw)
            features = Features(coarse, self.decoder.project(fine))
            self_attended = self._self_attend(features)
        return Features(coarse.to(self.dtype), tuple(x.to(self.dtype) for x in features.fine), self_attended)

    def _self_attend(self, features: Features) -> Tensor | None:
        """What else is computed once a frame for all objects."""
        return None

    def embedding(self, features: Features) -> Tensor:
        """(1, 256, h, w): the image embedding for prompts without any memory."""
        return features.coarse

    def decode(
        self,
        features: Features,
        embedding: Tensor,
        points: PromptTensors | None = None,
        mask_logits: Tensor | None = None,
    ) -> MaskCandidates:
        """Propose masks of B objects.

        Args:
            features: of the frame or image.
            embedding: (B, 256, h, w) from `embedding` or, with memory, from `VideoModel.attend_to_memory`.
            points: clicks in pixels of the input or, where the picture rule has a `prompt_side`, of that square;
                none when tracking.
            mask_logits: (B, 1, 4 h, 4 w) earlier logits that the clicks correct.
        """
        points = points or self.prompts.no_points(embedding.shape[0])
        own_frame = self.spec.picture.prompt_side is not None
        candidates: MaskCandidates = self.decoder(
            embedding + self.prompts.dense(mask_logits, features.grid),
            self.prompts.grid_code(features.grid),
            self.prompts.points(points, self.spec.prompt_wh if own_frame else self.input_wh(features)),
            features.fine,
        )
        return candidates
