"""`samvideo analyze`: from a run's masks to numbers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from samvideo.cli.common import FIRST_HELP, is_object_id, numbers, verb
from samvideo.errors import ConfigError, shown

if TYPE_CHECKING:
    from samvideo.analysis.findings import Findings


@verb
def analyze(
    run: Path = typer.Argument(metavar="OUT_DIR", help="The folder that `samvideo track` wrote."),
    out: Path | None = typer.Option(
        None, "-o", "--out", metavar="REPORT_DIR", help="Folder for the report [OUT_DIR/analysis]."
    ),
    fps: float | None = typer.Option(None, help="Frames per second, instead of the times in the run."),
    label: list[str] = typer.Option(
        [], metavar="ID=NAME", help="Class of an object: 1=grasper [its label]. Repeatable."
    ),
    tissue: str = typer.Option("", metavar="ID,ID", help="Objects that are not instruments."),
    mm_per_pixel: float | None = typer.Option(None, help="Scale: figures in millimetres, not pixels."),
    bridge: float = typer.Option(0.2, help="Seconds an object may be hidden and yet count as in view throughout."),
    contact_gap: float = typer.Option(0.0, help="Pixels between masks in contact; 0: they touch or overlap."),
    idle_speed: float | None = typer.Option(None, help="Slower is idle [2 % of the diagonal per second]."),
    smooth: float = typer.Option(0.4, help="Seconds that speed, acceleration and jerk are smoothed over."),
    video: str | None = typer.Option(
        None, help="The source: its black, blurred and smoky pictures are left out of motion [the run's overlay]."
    ),
    first: int | None = typer.Option(None, "--from", min=0, metavar="FRAME", help=FIRST_HELP),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier report."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No summary."),
    as_json: bool = typer.Option(False, "--json", help="Print what analysis.json holds."),
) -> None:
    """Measure presence, motion, contact and use of the tracked objects: CSV, analysis.json and a page."""
    from samvideo.analysis.output import write_analysis
    from samvideo.analysis.settings import AnalysisSettings

    settings = AnalysisSettings(
        labels=parse_labels(label),
        tissue=frozenset(numbers(tissue, "--tissue")),
        bridge=bridge,
        contact_gap=contact_gap,
        idle_speed=idle_speed,
        smooth=smooth,
        mm_per_pixel=mm_per_pixel,
        fps=fps,
    )
    folder = out or (run if run.is_dir() else run.parent) / "analysis"
    findings = write_analysis(run, folder, settings, video=video, first=first, overwrite=overwrite)
    if as_json:
        typer.echo(json.dumps(json.loads((folder / "analysis.json").read_text(encoding="utf-8"))))
    elif not quiet:
        typer.echo(_summary(findings, folder), err=True)


def parse_labels(texts: list[str]) -> dict[int, str]:
    """Parse `1=grasper` to {1: "grasper"}; ConfigError for anything else."""
    from samvideo.types import check_label

    labels = {}
    for text in texts:
        number, _, name = text.partition("=")
        if not is_object_id(number.strip()) or not name.strip():
            raise ConfigError(f"a label is an object's number and its class, like 1=grasper, not {shown(text)}")
        if any(is_object_id(part.partition("=")[0].strip()) and "=" in part for part in name.split(",")):
            raise ConfigError(f"a label is one object's: --label 1=grasper --label 2=scissors, not {shown(text)}")
        if int(number) in labels:
            raise ConfigError(f"object {int(number)} has two labels: one expected")
        labels[int(number)] = check_label(name.strip(), ConfigError)
    return labels


def _summary(findings: "Findings", folder: Path) -> str:
    lines = [f"{findings.frames} frames, {findings.seconds:.1f} s"]
    lines += [f"  {findings.left_out}"] if findings.left_out else []
    for entry in findings.objects:
        motion = "no motion measured"
        if entry.mean_speed is not None:
            motion = (
                f"path {entry.path_length:.0f} {findings.unit}, mean speed {entry.mean_speed:.1f} {findings.unit}/s"
            )
        left_out = f" ({entry.frames_left_out} of its frames left out)" if entry.frames_left_out else ""
        lines.append(f"  {entry.label:12} in view {entry.time_in_view:.1f} s, {motion}{left_out}")
    return "\n".join([*lines, f"  {folder / 'report.html'}"])
