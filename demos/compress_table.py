"""What quantisation costs a model, by method and bits: mean IoU from boxes against the annotation.

    python demos/compress_table.py --model sam-vit-mini=FILE --images DIR \
        --methods minmax,w8a8,ptq4sam,pqsam --bits 8,6,4

DIR holds folders of `images` with `masks` beside them. Every `--every`-th of the chosen pictures is calibrated
with, the others are scored. Prints a table in Markdown.
"""

import argparse
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import torch

from samvideo.calibrate import Shot, mean_iou, predict, read_shots, true_masks
from samvideo.checkpoints import load_any
from samvideo.compress.fake import quantise
from samvideo.compress.quantised import METHODS
from samvideo.errors import ConfigError
from samvideo.image_model import ImageModel


def rows(
    model: ImageModel,
    calibration: Sequence[Shot],
    held_out: Sequence[Shot],
    methods: Sequence[str],
    bits: Sequence[int],
) -> Iterable[tuple[str, list[float]]]:
    """Name and mean IoU by bits: of the model itself, then of each method.

    Args:
        model: fused; is quantised and restored in turn.
        calibration: what it is quantised with.
        held_out: what it is scored on; annotated.
        methods: by name.
        bits: of weights and activations.
    """
    truth = true_masks(model, held_out)
    if not truth:
        raise ConfigError("pictures with masks expected: folders of images/ and masks/")
    yield "fp32", [mean_iou(predict(model, held_out), truth)] * len(bits)
    for method in methods:
        found = []
        for count in bits:
            torch.manual_seed(0)
            quantised = quantise(model, METHODS[method](count), partial(predict, model, calibration))
            found.append(mean_iou(predict(model, held_out), truth))
            quantised.remove()
        yield method, found


def split(shots: Sequence[Shot], every: int) -> tuple[list[Shot], list[Shot]]:
    """Every n-th shot, and the others; both sides get something of each set."""
    return list(shots[::every]), [shot for i, shot in enumerate(shots) if i % every]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="NAME or NAME=FILE")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--methods", default="minmax,w8a8,ptq4sam,pqsam")
    parser.add_argument("--bits", default="8,6,4")
    parser.add_argument("--pictures", type=int, default=80, help="all together [80: 16 to calibrate, 64 to score]")
    parser.add_argument("--every", type=int, default=5)
    options = parser.parse_args()
    methods, bits = options.methods.split(","), [int(count) for count in options.bits.split(",")]
    model = load_any(options.model)
    assert isinstance(model, ImageModel)
    shots = read_shots([options.images], model, pictures=options.pictures, frames=1)
    calibration, held_out = split(shots, options.every)
    print(f"{len(calibration)} pictures to calibrate with, {len(held_out)} to score\n", flush=True)
    print(f"| method | {' | '.join(f'{count} bits' for count in bits)} |\n| --- |{' ---: |' * len(bits)}")
    for name, found in rows(model, calibration, held_out, methods, bits):
        print(f"| {name} | {' | '.join(f'{value:.4f}' for value in found)} |", flush=True)


if __name__ == "__main__":
    main()
