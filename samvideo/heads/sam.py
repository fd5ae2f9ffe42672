"""The heads of SAM (Kirillov et al. 2023) and SAM 2 (Ravi et al. 2024), and of image models that kept SAM's."""

from dataclasses import dataclass

from samvideo.heads.masks import MaskDecoder
from samvideo.heads.prompt_encoder import Padding, PromptEncoder

KIND = "heads"


@dataclass(frozen=True)
class SamHeadsConfig:
    """What tells the heads of one model from another's.

    Attributes:
        object_score: whether the decoder says if the object is there, and bounds its qualities (SAM 2).
        padding: when a point that says nothing is added.
        eps: of the decoder's transformer norms.
        fine_widths: channels of the encoder's fine maps; None without.
    """

    object_score: bool = False
    padding: Padding = "without box"
    eps: float = 1e-5
    fine_widths: tuple[int, int] | None = None


VARIANTS = {
    "sam2": SamHeadsConfig(object_score=True, padding="always"),
    "sam": SamHeadsConfig(),
    "efficientvit-sam": SamHeadsConfig(eps=1e-6),
    "nanosam": SamHeadsConfig(padding="never"),
}


def build(config: SamHeadsConfig) -> tuple[PromptEncoder, MaskDecoder]:
    """Prompt encoder and mask decoder with untrained weights."""
    decoder = MaskDecoder(config.fine_widths, object_score=config.object_score, eps=config.eps)
    return PromptEncoder(padding=config.padding), decoder
