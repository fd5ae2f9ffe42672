"""What every image encoder promises, on every encoder there is; a new file in samvideo/encoders is picked up."""

import socket

import pytest
import torch

from samvideo import models, registry
from samvideo.encoders.base import ImageEncoder, check_multiple
from samvideo.errors import ConfigError
from samvideo.models import build
from samvideo.testing import check_encoder, check_maps

ENCODERS = models.encoders()
SIZES = ((64, 64), (64, 96), (224, 64))
# seconds each on a CPU, with the code of the smaller ones of the family
LARGE = (
    *("hiera-base-plus", "hiera-large", "efficientformer-s2", "efficientformer-l", "repvit-m3", "tinyvit-21m"),
    *("sam-vit-b", "sam-vit-l", "sam-vit-h"),
    *(name for name in ENCODERS if name.startswith("efficientvit-") and name != "efficientvit-l0"),
)


def make(name: str) -> ImageEncoder:
    torch.manual_seed(0)
    return registry.ENCODERS.build(name).eval()


def test_the_published_ones_are_there() -> None:
    assert {spec.encoder for spec in models.SPECS.values()} <= set(ENCODERS)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in LARGE else []) for name in ENCODERS]
)
def test_contract(name: str) -> None:
    check_encoder(name)


@pytest.mark.parametrize("name", LARGE)
@torch.inference_mode()
def test_map_shapes(name: str) -> None:
    with torch.device("meta"):
        encoder = make(name)
        for height, width in SIZES:
            check_maps(encoder, torch.empty(1, 3, height, width))


@pytest.mark.parametrize("name", ["vit-ti", "hiera-tiny", "repvit-m1"])
@torch.inference_mode()
def test_every_pixel_counts(name: str) -> None:
    """A change in the last corner reaches the maps: nothing is cut off by windows or padding."""
    encoder = make(name)
    image = torch.zeros(1, 3, 96, 160)
    changed = image.clone()
    changed[..., -3:, -3:] = 3.0
    (a, fine_a), (b, fine_b) = encoder(image), encoder(changed)
    for x, y in zip([a, *fine_a], [b, *fine_b], strict=True):
        assert not torch.equal(x[..., -1, -1], y[..., -1, -1])


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiples of 32 expected, for example 512x512"):
        build("hiera-tiny", input_size=500)
    with pytest.raises(ConfigError, match="memory 'perceiver': multiples of 256"):
        build("vit-ti", memory="perceiver", input_size=(512, 320))
    check_multiple((64, 32), 32, "this")


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"'resnet'.*edgetam.*repvit-m1"):
        build("resnet")
    with pytest.raises(ConfigError, match=r"no memory method 'lstm'; known: .*perceiver, plain"):
        build("edgetam", memory="lstm")
    with pytest.raises(ConfigError, match=r"no memory policy 'plain'; known: .*fifo, pruning"):
        build("edgetam", policy="plain")
    with pytest.raises(ConfigError, match="has no option 'colour'; its options are: dim, heads"):
        registry.ENCODERS.build("vit-ti", colour=1)


def test_entry_points_add_components(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "foreign_vit.py").write_text(
        "from samvideo.encoders.vit import PlainVit, VitConfig\n"
        "KIND = 'encoder'\nVARIANTS = {'foreign-small': VitConfig(32, 2, depth=1)}\nbuild = PlainVit\n"
    )
    info = tmp_path / "foreign-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[samvideo.encoders]\nforeign = foreign_vit\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "foreign-small" in models.encoders()
    assert build("foreign-small", input_size=64).spec.encoder == "foreign-small"
