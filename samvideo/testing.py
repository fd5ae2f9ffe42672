"""What encoders, memory policies and data sets promise, as checks for the tests of a plug-in, and of ours.

Each check finds the component by its name, as every command does, and raises AssertionError for a broken promise.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from samvideo.encoders.base import WIDTH, ImageEncoder
from samvideo.errors import DatasetError
from samvideo.evaluation.datasets import open_dataset
from samvideo.memory.bank import MemoryBank
from samvideo.memory.base import CODE_ROWS, History, MemoryEntry
from samvideo.policies import parse_policy, policy_facts, policy_options, policy_text
from samvideo.registry import ENCODERS
from samvideo.tensors import MemoryTokens

SIZES = (1, 1), (1, 2), (4, 1)
"""Heights and widths of the images that an encoder is tried on, in its steps or, if that is less, 64 pixels."""
FRAMES = 2000
"""So many are inserted into memory; after half of them it must not grow any more."""


@torch.inference_mode()
def check_encoder(name: str) -> None:
    """Check that any multiple of the step works, nothing is kept between images, and fusing keeps the maps.

    Args:
        name: a variant of an encoder, which is built with untrained weights.
    """
    torch.manual_seed(0)
    encoder: ImageEncoder = ENCODERS.build(name).eval()
    unit = max(64, encoder.step)
    for batch, (rows, columns) in enumerate(SIZES, 1):
        image = torch.randn(batch, 3, rows * unit, columns * unit)
        before = check_maps(encoder, image)
        assert all(x.isfinite().all() for x in before), f"{name} gives values that are not finite"
        assert torch.equal(check_maps(encoder, image)[0], before[0]), f"{name} keeps something between images"
    encoder.fuse()
    encoder.fuse()
    for a, b in zip(before, check_maps(encoder, image), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3 * float(a.abs().max())), f"{name} changes when it is fused"


def check_maps(encoder: ImageEncoder, image_bchw: Tensor) -> list[Tensor]:
    """Return the maps of an image, the coarse one first, once their number, widths and strides are checked."""
    height, width = image_bchw.shape[-2:]
    coarse, fine = encoder(image_bchw)
    widths, strides = (WIDTH, *encoder.fine_widths), (encoder.stride, 4, 8)
    wanted = [(len(image_bchw), c, height // s, width // s) for c, s in zip(widths, strides, strict=True)]
    wanted = wanted[: 3 if encoder.fine else 1]
    shapes = [tuple(x.shape) for x in (coarse, *fine)]
    assert shapes == wanted, f"maps of shapes {wanted} expected, coarse one first, not {shapes}"
    return [coarse, *fine]


def check_policy(name: str) -> None:
    """Check that memory is bounded, that recalling is pure and within the capacity, and that options work as text.

    Args:
        name: a variant of a memory policy.
    """
    policy = parse_policy(name)
    assert policy.recall(History(5, (), policy.initial_state())).shape == (0, 0), "an empty memory recalls nothing"
    bank, sizes = MemoryBank(policy), []
    for index in range(FRAMES):
        bank.insert(_entry(index, prompted=index % 10 == 0))
        sizes.append((len(bank.entries), sum(entry.tokens is not None for entry in bank.entries)))
        if index < FRAMES // 100:
            first, again = bank.recall(index + 1), bank.recall(index + 1)
            assert first == again, f"{name} recalls something else the second time"
            within = all(count <= most for count, most in zip(first.shape, policy.capacity, strict=True))
            assert within, f"{name} recalls {first.shape} frames and pointers: its capacity is {policy.capacity}"
            codes = [frame.code_row for frame in first.frames]
            assert CODE_ROWS - 1 in codes, f"{name} does not attend to a prompted frame"
        prompted = [entry for entry in bank.entries if entry.prompted]
        assert prompted[0].index == 0, f"{name} forgets the first prompted frame"
        assert all(entry.tokens is not None for entry in prompted), f"{name} frees tokens of prompted frames"
    for counts, what in zip(zip(*sizes, strict=True), ("entries", "tokens"), strict=True):
        assert max(counts[FRAMES // 2 :]) <= max(counts[: FRAMES // 2]), f"{name} lets its {what} grow"
    options = policy_options(name)
    text = f"{name}:" + ",".join(f"{key}={value}" for key, value in options.items()).lower()
    assert not options or (parse_policy(text), policy_text(text)) == (policy, name), f"{text} is another policy"
    assert policy_facts(name).does not in ("", "-"), f"{name} has no FACTS and its module no title"


def check_dataset(name: str, root: Path, split: str | None = None) -> None:
    """Check that a folder of a data set is read without contradictions, and that another folder is refused.

    Args:
        name: of the data set.
        root: a folder of it, as small as it may be.
        split: by default the first.
    """
    dataset = open_dataset(name, root, split)
    assert dataset.name == name, f"the data set {name} calls itself {dataset.name}"
    assert split in (None, dataset.split), f"{name} opens its split {dataset.split} instead of {split}"
    assert dataset.rule.description, f"{name} does not say how it is scored"
    assert dataset.sequences(), f"{root} has no sequence"
    for sequence in dataset.sequences():
        clip = dataset.sequence(sequence)
        assert clip.first_seen.keys() == clip.labels.keys(), (
            f"{sequence}: objects without a first frame, or a label"
        )
        assert len(clip.images) in (0, len(clip.frames)), f"{sequence}: {len(clip.images)} images of its frames"
        assert set(clip.saved) <= set(range(len(clip.frames))), (
            f"{sequence}: predictions of frames that are not there"
        )
        annotated = {*clip.first_seen.values(), *(index for frames in clip.scored.values() for index in frames)}
        assert annotated <= clip.masks.keys(), f"{sequence}: frames are prompted or scored that have no mask"
        truths = [dataset.truth(clip, index) for index in clip.masks]
        read = {path for index in clip.masks for path in dataset.truth_files(clip, index)}
        assert all(path.is_file() for path in read), f"{sequence}: truth_files lists files that do not exist"
        assert len({truth.shape_hw for truth in truths} - {None}) <= 1, f"{sequence}: masks of several sizes"
        assert all(truth.numbers <= clip.labels.keys() for truth in truths), f"{sequence}: objects without a label"
    with TemporaryDirectory() as empty:
        try:
            open_dataset(name, Path(empty))
        except DatasetError:
            return
    raise AssertionError(f"{name} opens an empty folder: raise WrongRoot")


def _entry(index: int, prompted: bool) -> MemoryEntry:
    generator = torch.Generator().manual_seed(index)
    features = torch.randn(1, 4, 64, generator=generator).bfloat16()
    tokens = MemoryTokens(features, torch.zeros(1, 4, 64), 0, (2, 2))
    return MemoryEntry(index, prompted, tokens, torch.ones(1, 256), presence=1.0)
