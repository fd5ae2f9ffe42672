"""`samvideo segment` of a volume."""

import json
from pathlib import Path

import typer

from samvideo.cli.weights import download_progress
from samvideo.errors import ConfigError


def segment_in_volume(
    path: Path,
    prompts: list[str],
    model: str,
    weights: Path | None,
    device: str,
    out: Path | None,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Segment a volume from clicks; see `segment_volume`."""
    from samvideo.checkpoints import load_any
    from samvideo.networks.fast_sam3d import FastSam3d
    from samvideo.segmenters.specs.sam import VOLUMES
    from samvideo.segmenters.volume import VolumeSegmenter
    from samvideo.volume_run import segment_volume
    from samvideo.weights.naming import split_name

    name, file = split_name(model, weights)
    if name not in ("auto", VOLUMES):
        raise ConfigError(
            f"volumes are segmented by {VOLUMES}, not by {name}; `samvideo track {path.name}` tracks objects "
            "through the slices with any tracker"
        )

    def make() -> VolumeSegmenter:
        with download_progress(VOLUMES, quiet=quiet) as progress:
            network = load_any(VOLUMES, weights=file, progress=progress.advance)
        assert isinstance(network, FastSam3d)  # which VOLUMES names
        return VolumeSegmenter(network, device=device)

    summary = segment_volume(path, prompts, make, out, overwrite=overwrite)
    if as_json:
        typer.echo(json.dumps(summary.to_json()))
    elif not quiet:
        typer.echo(f"{len(summary.objects)} objects  {summary.file}", err=True)
