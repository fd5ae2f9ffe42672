"""The published checkpoints, a row each."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from samvideo.errors import ConfigError
from samvideo.weights.contents import SAM2_PARTS

APACHE = "Apache-2.0"
S_LAB = "S-Lab 1.0, non-commercial"


@dataclass(frozen=True)
class Checkpoint:
    """One published file."""

    name: str
    url: str | None  # None if it can only be given as a local file
    megabytes: int
    licence: str  # of the weights, as stated by the publisher
    origin: str  # the publisher
    sha256: str | None = None  # hex digits if published or checked
    git_blob: str | None = None  # git's blob id (SHA-1 of a header and the content) of a file in a repository
    note: str = ""  # how to get a file without `url`
    parts: tuple[str, ...] = SAM2_PARTS  # beginnings of parameter names that the file must have
    files: tuple[str, ...] = ()  # what each file holds, where the publisher gives several

    @property
    def file_name(self) -> str:
        """Name of the cached file."""
        last = self.url.rsplit("/", 1)[-1] if self.url else f"{self.name}.pth"
        return f"{self.name}.safetensors" if last == "model.safetensors" else last

    @property
    def restriction(self) -> str:
        """What the licence forbids, as a warning; empty if it allows commercial use."""
        if "non-commercial" not in self.licence:
            return ""
        return f"the weights of {self.name} must not be used commercially (licence {self.licence})"

    @property
    def largest_bytes(self) -> int:
        """Size above which a file cannot be this one: the stated size is rounded, and may be in MiB."""
        return (self.megabytes + 1) * 1_250_000


_META = "https://dl.fbaipublicfiles.com/segment_anything_2"
_EFFICIENT = "https://huggingface.co/yunyangx/efficient-track-anything/resolve/main"
_HIERA = (("tiny", 156), ("small", 184), ("base-plus", 324), ("large", 898))


def _sam2() -> Iterator[Checkpoint]:
    for version, folder, stem in (("2.1", "092824", "sam2.1_hiera"), ("2", "072824", "sam2_hiera")):
        for size, megabytes in _HIERA:
            url = f"{_META}/{folder}/{stem}_{size.replace('-', '_')}.pt"
            yield Checkpoint(f"sam{version}-{size}", url, megabytes, APACHE, "facebookresearch/sam2")


def _efficienttam() -> Iterator[Checkpoint]:
    for size, megabytes in (("s", 136), ("ti", 72)):
        for suffix, file_suffix in (("", ""), ("-1", "_1"), ("-2", "_2"), ("-512", "_512x512")):
            url = f"{_EFFICIENT}/efficienttam_{size}{file_suffix}.pt"
            yield Checkpoint(f"efficienttam-{size}{suffix}", url, megabytes, APACHE, "yformer/EfficientTAM")


_SURGICAL_NOTE = (
    "published on a shared drive without a licence file: download sam2_hiera_s_endo18.pth from "
    "https://drive.google.com/file/d/102AsbwpntPfUV96ANO2AWe7L6feskYnM by hand and pass it with --weights FILE"
)

_HEADS = ("prompt_encoder.", "mask_decoder.")
_VIT = ("image_encoder.blocks.0.attn.rel_pos_h", *_HEADS)
_PLAIN_VIT = ("image_encoder.blocks.0.attn.qkv.", *_HEADS)
_TINY_VIT = ("image_encoder.layers.0.blocks.", *_HEADS)
_REPVIT = ("image_encoder.features.", *_HEADS)
_EFFICIENT_VIT = ("image_encoder.backbone.stages.", "image_encoder.neck.", *_HEADS)
_SAM = "https://dl.fbaipublicfiles.com/segment_anything/sam_vit"
_HUB = "https://huggingface.co"
_YFORMER = "https://github.com/yformer/EfficientSAM/raw"
_SQUEEZE_SAM = f"{_YFORMER}/3477a435dea34ac50838d7e8cd37f97e12a7caa4/weights/squeeze_sam.pt"
_MOBILE_SAM_V2_NOTE = (
    'published as two files: the encoder (tiny_vit.pt, under "model") in the archive '
    "https://drive.google.com/file/d/1dE-YAG-1mFCBmao2rHDp0n-PP4eH7SjE, and "
    "Prompt_guided_Mask_Decoder.pt in the folder MobileSAMv2/PromptGuidedDecoder of ChaoningZhang/MobileSAM; "
    "download both by hand and pass them with --weights ENCODER,DECODER"
)
_NANO_SAM_NOTE = (
    "published as ONNX only, which lacks the names of parameters: train the encoder with NVIDIA-AI-IOT/nanosam and "
    "pass its checkpoint with that of MobileSAM, whose decoder it uses: --weights ENCODER.pth,mobile_sam.pt"
)
_RAP_SAM_NOTE = (
    "published on OneDrive: download rapsam_r50_12e.pth from the address in the README of "
    "https://github.com/xushilin1/RAP-SAM by hand and pass it with --weights FILE"
)
_FAST_SAM3D_NOTE = (
    "published in parts: download encoder, prompt encoder and mask decoder from "
    "https://huggingface.co/techlove/FastSAM3D by hand and pass them with --weights ENCODER,PROMPT_ENCODER,DECODER"
)
_MINI_NOTE = (
    "no weights are published: train it with `samvideo train image sam-vit-mini --objects DIR -o FILE` and pass "
    "them with --weights FILE, or take --weights random"
)
_NEVER = "its weights were never published: train it and pass them with --weights FILE, or take --weights random"


def _sam() -> Iterator[Checkpoint]:
    for size, file, megabytes in (("b", "01ec64", 375), ("l", "0b3195", 1250), ("h", "4b8939", 2565)):
        url = f"{_SAM}_{size}_{file}.pth"
        yield Checkpoint(f"sam-vit-{size}", url, megabytes, APACHE, "facebookresearch/segment-anything", parts=_VIT)
    for percent, megabytes in ((50, 112), (77, 39)):
        url = f"{_HUB}/Zigeng/SlimSAM-uniform-{percent}/resolve/main/model.safetensors"
        yield Checkpoint(f"slimsam-{percent}", url, megabytes, APACHE, "czg1225/SlimSAM", parts=_VIT)


def _mobile() -> Iterator[Checkpoint]:
    """Those with small encoders, of about the size of MobileSAM."""
    mobile = "ChaoningZhang/MobileSAM"
    url = f"https://github.com/{mobile}/raw/master/weights/mobile_sam.pt"
    yield Checkpoint("mobilesam", url, 41, APACHE, mobile, parts=_TINY_VIT)
    url = "https://github.com/xinghaochen/TinySAM/releases/download/3.0/tinysam_42.3.pth"
    yield Checkpoint("tinysam", url, 41, APACHE, "xinghaochen/TinySAM", parts=_TINY_VIT)
    yield Checkpoint(
        "mobilesamv2",
        None,
        41,
        APACHE,
        mobile,
        note=_MOBILE_SAM_V2_NOTE,
        parts=_TINY_VIT,
        files=("encoder", "decoder"),
    )
    for suffix, file in (("", "edge_sam"), ("-3x", "edge_sam_3x")):
        url = f"{_HUB}/spaces/chongzhou/EdgeSAM/resolve/main/weights/{file}.pth"
        yield Checkpoint(f"edgesam{suffix}", url, 39, S_LAB, "chongzhou96/EdgeSAM", parts=_REPVIT)
    url = "https://github.com/THU-MIG/RepViT/releases/download/v1.0/repvit_sam.pt"
    yield Checkpoint("repvit-sam", url, 110, APACHE, "THU-MIG/RepViT", parts=_REPVIT)


def _efficient() -> Iterator[Checkpoint]:
    for size, file, megabytes in (("ti", "vitt.pt", 41), ("s", "vits.pt.zip", 106)):
        url = f"{_YFORMER}/main/weights/efficient_sam_{file}"
        yield Checkpoint(f"efficientsam-{size}", url, megabytes, APACHE, "yformer/EfficientSAM", parts=_PLAIN_VIT)
    for size, megabytes in (("l0", 140), ("l1", 191), ("l2", 246), ("xl0", 469), ("xl1", 814)):
        url = f"{_HUB}/mit-han-lab/efficientvit-sam/resolve/main/efficientvit_sam_{size}.pt"
        name = f"efficientvit-sam-{size}"
        yield Checkpoint(name, url, megabytes, APACHE, "mit-han-lab/efficientvit", parts=_EFFICIENT_VIT)


def _without_sam() -> Iterator[Checkpoint]:
    """Networks that are not an encoder with the heads of SAM."""
    yield Checkpoint(
        "squeezesam",
        _SQUEEZE_SAM,
        41,
        APACHE,
        "yformer/EfficientSAM",
        parts=("unet_encoder.", "unet_decoder.", "mask_decoder."),
    )
    yield Checkpoint(
        "rap-sam-r50",
        None,
        190,
        "MIT",
        "xushilin1/RAP-SAM",
        note=_RAP_SAM_NOTE,
        parts=("backbone.", "panoptic_head."),
    )
    yield Checkpoint(
        "fastsam3d",
        None,
        213,
        APACHE,
        "arcadelab/FastSAM3D",
        note=_FAST_SAM3D_NOTE,
        parts=("blocks.", *_HEADS),
        files=("encoder", "prompt encoder", "decoder"),
    )


def _local() -> Iterator[Checkpoint]:
    """Those that nobody can download."""
    yield Checkpoint(
        "nanosam",
        None,
        80,
        APACHE,
        "NVIDIA-AI-IOT/nanosam",
        note=_NANO_SAM_NOTE,
        parts=("backbone.", "up_1.", *_HEADS),
        files=("encoder", "decoder"),
    )
    yield Checkpoint(
        "sam-vit-mini", None, 17, "none", "nobody: a small SAM to be trained", note=_MINI_NOTE, parts=_VIT
    )
    rows = (
        (
            "sam-lightening",
            73,
            "none stated",
            "Songyanfei/SAM-LIGHTENING",
            ("image_encoder.blocks.0.attn.multihead_attn.", *_HEADS),
        ),
        ("esam", 69, "none stated", "no code was published", ("image_encoder.stem.", *_HEADS)),
        ("rwkv-sam-small", 97, S_LAB, "HarborYuan/ovsam", ("backbone.", "pe.", "mask_decoder.")),
    )
    for name, megabytes, licence, origin, parts in rows:
        yield Checkpoint(name, None, megabytes, licence, origin, note=_NEVER, parts=parts)


CATALOG: dict[str, Checkpoint] = {
    row.name: row
    for row in (
        *_sam2(),
        Checkpoint(
            "edgetam",
            "https://github.com/facebookresearch/EdgeTAM/raw/main/checkpoints/edgetam.pt",
            56,
            APACHE,
            "facebookresearch/EdgeTAM",
            git_blob="abd54d22bbd22ba3e53cf59a307e59e0f3701be6",
        ),
        *_efficienttam(),
        *(
            Checkpoint(name, None, 184, "none stated", "jinlab-imvr/Surgical-SAM-2", note=_SURGICAL_NOTE)
            for name in ("surgical-sam2-s", "surgical-sam2-s-512")
        ),
        *_sam(),
        *_mobile(),
        *_efficient(),
        *_local(),
        *_without_sam(),
    )
}

PARAMETERS = {
    "sam2.1-tiny": 39.0,
    "sam2.1-small": 46.1,
    "sam2.1-base-plus": 80.8,
    "sam2.1-large": 224.4,
    "sam2-tiny": 38.9,
    "sam2-small": 46.0,
    "sam2-base-plus": 80.8,
    "sam2-large": 224.4,
    "efficienttam-s": 34.1,
    "efficienttam-s-1": 34.1,
    "efficienttam-s-2": 34.1,
    "efficienttam-s-512": 34.1,
    "efficienttam-ti": 17.9,
    "efficienttam-ti-1": 17.9,
    "efficienttam-ti-2": 17.9,
    "efficienttam-ti-512": 17.9,
    "edgetam": 13.9,
    "surgical-sam2-s": 46.0,
    "surgical-sam2-s-512": 46.0,
    "sam-vit-b": 93.7,
    "sam-vit-l": 312.3,
    "sam-vit-h": 641.1,
    "mobilesam": 9.8,
    "tinysam": 9.8,
    "mobilesamv2": 9.8,
    "edgesam": 9.6,
    "edgesam-3x": 9.6,
    "repvit-sam": 27.2,
    "slimsam-50": 28.0,
    "slimsam-77": 9.7,
    "sam-vit-mini": 8.5,
    "sam-lightening": 18.2,
    "esam": 17.1,
    "efficientsam-ti": 10.2,
    "efficientsam-s": 26.4,
    "efficientvit-sam-l0": 34.8,
    "efficientvit-sam-l1": 47.7,
    "efficientvit-sam-l2": 61.3,
    "efficientvit-sam-xl0": 117.0,
    "efficientvit-sam-xl1": 203.3,
    "nanosam": 19.9,
    "rwkv-sam-small": 24.2,
    "squeezesam": 10.2,
    "rap-sam-r50": 47.3,
    "fastsam3d": 53.2,
}
"""Millions of learned values of each model; counting them takes seconds."""


def checkpoint(name: str) -> Checkpoint:
    """Return the row of that name; ConfigError, which names the nearest, if there is none."""
    if name not in CATALOG:
        near = get_close_matches(name, CATALOG, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(CATALOG)}"
        raise ConfigError(f"there are no published weights {name!r}; {hint}")
    return CATALOG[name]
