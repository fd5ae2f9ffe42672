"""What tells one model from another, and the published models; no torch."""

from dataclasses import dataclass, replace
from typing import Literal

from samvideo.memory.base import MemoryPolicy
from samvideo.memory.fifo import FifoPolicy


@dataclass(frozen=True)
class PictureRule:
    """How pictures become inputs, and masks return; it decides whether numbers are the published ones.

    Attributes:
        fit: "stretch" to the input size, or "pad": the longer side is resized to it, the rest is zeros at the right
            and the bottom; or "area": an input of about that area and the picture's own aspect ratio.
        resize: the filter. "bicubic" is PyTorch's on bytes with antialiasing, "bilinear" on fractions
            without; "pil-bilinear" and "pil-bicubic" are Pillow's, whose filters widen when a picture shrinks;
            "area" averages areas to shrink and is bilinear to enlarge, the fastest (OpenCV).
        rounding: of the shorter side under "pad".
        prompt_side: side of the square frame in which prompts are encoded; None: the input itself, as under "area".
        masks: from low-resolution logits to the picture. "bilinear" and "bicubic": at once; "by-input": bilinear to
            the prompts' frame, the padding cut off, bilinear to the picture; "crop": the padding cut off first.
    """

    fit: Literal["stretch", "pad", "area"] = "stretch"
    resize: Literal["bicubic", "bilinear", "pil-bilinear", "pil-bicubic", "area"] = "bicubic"
    rounding: Literal["nearest", "down"] = "nearest"
    prompt_side: int | None = None
    masks: Literal["bilinear", "bicubic", "by-input", "crop"] = "bilinear"


Answer = Literal["stable", "single", "alternatives", "stability"]
"""Which of SAM's four masks answer a prompt that is not a single click, on which the three alternatives always do.

"single": the first; "stable": the first or, where that is unstable, the best alternative (SAM 2); "alternatives":
these as well (TinySAM, which has no other); "stability": as "single", but all are rated by the stability of their
logits instead of the predicted IoU, which was not trained (EdgeSAM).
"""
SAM_PICTURE = PictureRule("pad", "pil-bilinear", prompt_side=1024, masks="by-input")


@dataclass(frozen=True)
class ModelSpec:
    """Everything that defines a model; stored in every report.

    Attributes:
        name: what users call it; published checkpoints have the names of `SPECS`.
        encoder: variant of an encoder, see `encoders()`; of a network of its own, what that encodes with.
        memory: variant of a memory method, see `samvideo models --parts`; None for an image model.
        policy: variant of a memory policy, see the same, or a policy with options of its own.
        input_wh: size to which frames are resized, width and height in pixels; see `PictureRule.fit`.
        layers: of the memory attention.
        occlusion_embedding: whether the memory of frames without the object gets a learned code (SAM 2.1).
        pointers: whether an object pointer of every frame is remembered (SAM 2).
        pointer_time_encoding: whether object pointers carry a code of their age (SAM 2.1).
        mean, std: of the encoder's training images, RGB in [0, 1].
        heads: variant of prompt encoder and mask decoder, see `samvideo.heads`.
        answer: which of the decoder's masks answers, see `Answer`; a video model has "stable" or "single".
        tracking: which of them is taken on a frame without prompts: one of the three "alternatives", by the memory
            policy (SAM 2), or always the "single" one, the first.
        picture: how pictures become inputs.
        window: side in pixels of the square input in which each prompted object is segmented, see
            `samvideo.windows`; None: in the input of the whole picture.
        network: variant of a network that takes the place of encoder and heads, see `samvideo.networks`.
        mask_filter: least predicted IoU and stability of masks that a grid of clicks keeps; by default SAM's.
        prefixes: of encoder, prompt encoder and mask decoder in the published checkpoint of an image model.
    """

    name: str
    encoder: str
    memory: str | None = "plain"
    policy: str | MemoryPolicy = "fifo"
    input_wh: tuple[int, int] = (1024, 1024)
    layers: int = 4
    occlusion_embedding: bool = False
    pointers: bool = True
    pointer_time_encoding: bool = False
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    heads: str = "sam2"
    answer: "Answer" = "stable"
    tracking: Literal["alternatives", "single"] = "alternatives"
    picture: PictureRule = PictureRule()
    window: int | None = None
    network: str | None = None
    mask_filter: tuple[float, float] = (0.88, 0.95)
    prefixes: tuple[str, str, str] = ("image_encoder.", "prompt_encoder.", "mask_decoder.")

    @property
    def prompt_wh(self) -> tuple[int, int]:
        """Width and height of the frame in which prompts are encoded; under "area" it depends on the picture."""
        side = self.picture.prompt_side
        return self.input_wh if side is None else (side, side)


def _specs() -> dict[str, ModelSpec]:
    small = (512, 512)
    sizes = ("tiny", "small", "base-plus", "large")
    specs = [
        ModelSpec(f"sam2.1-{s}", f"hiera-{s}", occlusion_embedding=True, pointer_time_encoding=True) for s in sizes
    ]
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


def _image_specs() -> dict[str, ModelSpec]:
    """The image models, those of the survey in its order; their statistics are ImageNet's, as SAM writes them."""
    sam = ModelSpec(
        "sam-vit-b",
        "sam-vit-b",
        memory=None,
        heads="sam",
        answer="single",
        picture=SAM_PICTURE,
        mean=(123.675 / 255, 116.28 / 255, 103.53 / 255),
        std=(58.395 / 255, 57.12 / 255, 57.375 / 255),
    )
    specs = [sam] + [replace(sam, name=f"sam-vit-{size}", encoder=f"sam-vit-{size}") for size in ("l", "h")]
    specs += [
        replace(sam, name="mobilesam", encoder="tinyvit-5m"),
        replace(sam, name="tinysam", encoder="tinyvit-5m", answer="alternatives"),
        replace(sam, name="mobilesamv2", encoder="tinyvit-5m"),
        *(replace(sam, name=f"edgesam{x}", encoder="repvit-m1-fused", answer="stability") for x in ("", "-3x")),
        replace(sam, name="repvit-sam", encoder="repvit-m2.3"),
        replace(sam, name="slimsam-50", encoder="sam-vit-slim-50"),
        replace(sam, name="slimsam-77", encoder="sam-vit-slim-77"),
        replace(sam, name="sam-lightening", encoder="dilated-vit-t"),
        replace(sam, name="esam", encoder="efficientformer-s2"),
    ]
    mini = PictureRule("stretch", "pil-bilinear")
    specs.append(replace(sam, name="sam-vit-mini", encoder="sam-vit-mini", input_wh=(256, 256), picture=mini))
    stretched = PictureRule("stretch", "bilinear", prompt_side=1024, masks="bicubic")
    imagenet = replace(sam, heads="efficientsam", picture=stretched, mean=ModelSpec.mean, std=ModelSpec.std)
    specs += [replace(imagenet, name=f"efficientsam-{size}", encoder=f"vit-{size}-global") for size in ("ti", "s")]
    efficientvit = replace(sam, heads="efficientvit-sam")
    specs += [
        replace(efficientvit, name=f"efficientvit-sam-{s}", encoder=f"efficientvit-{s}-dense", input_wh=(512, 512))
        for s in ("l0", "l1", "l2")
    ]
    specs += [
        replace(efficientvit, name=f"efficientvit-sam-{s}", encoder=f"efficientvit-{s}") for s in ("xl0", "xl1")
    ]
    nano = PictureRule("pad", "pil-bicubic", "down", prompt_side=1024, masks="crop")
    bare = ("", "prompt_encoder.", "mask_decoder.")
    specs += [
        replace(sam, name="nanosam", encoder="resnet-18", heads="nanosam", picture=nano, prefixes=bare),
        replace(sam, name="rwkv-sam-small", encoder="rwkv-small", heads="rwkv-sam", prefixes=("", "pe.", bare[2])),
    ]
    whole = replace(imagenet, heads="", picture=replace(stretched, prompt_side=None))
    specs += [
        replace(whole, name="squeezesam", encoder="u-net", network="squeeze-sam", input_wh=(512, 512)),
        replace(whole, name="rap-sam-r50", encoder="resnet-50", network="rap-sam", input_wh=(1333, 800)),
        replace(whole, name="fastsam3d", encoder="vit-3d", network="fast-sam3d", input_wh=(128, 128)),
    ]
    return {spec.name: spec for spec in specs}


# Windows of 320 pixels are what it was trained on; the input is as large as DAVIS's frames at 480 lines; four
# frames without prompts, eight apart, span about a second.
NANO = ModelSpec(
    "nano",
    "efficientnet-lite0",
    memory="affinity-ridge",
    policy=FifoPolicy(frames=4, stride=8, pointers=0, closest_first=True),
    input_wh=(848, 480),
    pointers=False,
    heads="nano",
    answer="single",
    tracking="single",
    picture=PictureRule("area", "area"),
    window=320,
    mask_filter=(0.5, 0.6),
)
BUNDLED = {"nano": NANO}
"""Models whose weights come with the package, by name."""
SPECS = _specs()
"""The published video models by name."""
IMAGE_SPECS = _image_specs()
"""The published image models by name."""
