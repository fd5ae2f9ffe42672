"""The published checkpoints, a row each."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from samvideo.errors import ConfigError

APACHE = "Apache-2.0"


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

    @property
    def file_name(self) -> str:
        """Name of the cached file."""
        return self.url.rsplit("/", 1)[-1] if self.url else f"{self.name}.pth"

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
    )
}


def checkpoint(name: str) -> Checkpoint:
    """Return the row of that name; ConfigError, which names the nearest, if there is none."""
    if name not in CATALOG:
        near = get_close_matches(name, CATALOG, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(CATALOG)}"
        raise ConfigError(f"there are no published weights {name!r}; {hint}")
    return CATALOG[name]
