"""`samvideo report`: compare runs on one self-contained page, and in Markdown and LaTeX tables."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from samvideo.errors import ConfigError
from samvideo.evaluation.image_report import image_sections, published_table
from samvideo.evaluation.image_results import is_image_results
from samvideo.evaluation.published import Published, published
from samvideo.evaluation.score_charts import reliability_chart, size_chart, tracking_predictions
from samvideo.evaluation.score_tables import ComparedRun, ScoreTable, TitledTable, j_by_sequence, load_runs
from samvideo.evaluation.thumbnails import Gallery
from samvideo.io.files import check_writable, write_atomically
from samvideo.reporting.charts import Dot, Series, accuracy_against_speed, bars_by_row, scores_over_frames
from samvideo.reporting.pages import jpeg_uri, render_page

WORST_SEQUENCES = 3
KINDS = ("speed", "sequence", "set", "size", "reliability")
"""Of charts."""
CHART = b'<svg role="img" aria-label='
TITLE = "samvideo report"


def write_report(paths: Sequence[Path], out: Path, charts: Path | None = None) -> list[Path]:
    """Write the page, and the tables beside it as .md and .tex.

    Args:
        paths: `results.json` files, or folders with one.
        out: path of the page.
        charts: folder for the charts as SVG files, named by data set and kind; None for none.

    Returns:
        The paths of all files.

    Raises:
        DatasetError, ConfigError: see `load_runs`.
        ConfigError: another file than a report would be replaced.
        OutputError: a file cannot be written.
    """
    _check_target(out)
    of_images = [path for path in paths if is_image_results(path)]
    of_videos = [path for path in paths if path not in of_images]
    splits: dict[tuple[str, str], list[ComparedRun]] = {}
    for run in load_runs(of_videos) if of_videos or not of_images else ():
        splits.setdefault(run.split, []).append(run)
    sections, images = [_section(runs) for runs in splits.values()], image_sections(of_images)
    known = published_table()
    tables = [table for section in sections for table in section["tables"]]
    for each in images:
        tables += [replace(one, title=f"{each['title']}, {one.title}") for one in each["tables"]]
    tables += [known] * bool(images)
    page = render_page(
        "evaluation.html", title=TITLE, sections=sections, image_sections=images, published_images=known
    )
    files = {
        out: page,
        out.with_suffix(".md"): "\n".join(table.markdown() for table in tables),
        out.with_suffix(".tex"): "\n".join(table.latex() for table in tables),
    }
    if charts is not None:
        files |= _charts([*sections, *images], charts)
    for path, text in files.items():
        write_atomically(path, text)
    return list(files)


def _check_target(out: Path) -> None:
    """Raise ConfigError if a file that is there is no report; tables belong to the page beside them."""
    tables = [out.with_suffix(suffix) for suffix in (".md", ".tex")] if out.name else [out]
    if out in tables or out.is_dir():
        raise ConfigError(f"{out} is not a valid path for a report: an HTML file expected, with tables beside it")
    unknown = [path for path in tables if path.exists()]
    if out.exists():
        try:
            unknown = [] if f"<title>{TITLE}</title>".encode() in out.read_bytes() else [out]
        except OSError:
            unknown = [out]
    if unknown:
        raise ConfigError(f"{unknown[0]} exists and is not a report: choose another path with -o")
    check_writable(out.parent)


def _charts(sections: Sequence[dict[str, Any]], folder: Path) -> dict[Path, str]:
    """The charts of all sections by their files; ConfigError if another file would be replaced."""
    files: dict[Path, str] = {}
    for section in sections:
        name = re.sub(r"\W+", "-", section["title"].lower()).strip("-")
        found = {kind: section.get(f"{kind}_chart") for kind in KINDS}
        files |= {folder / f"{name}-{kind}.svg": chart for kind, chart in found.items() if chart}
    for path in files:
        if path.exists() and (path.is_dir() or not path.read_bytes().startswith(CHART)):
            raise ConfigError(f"{path} exists and is not a chart of samvideo: choose another folder")
    return files


def _section(runs: list[ComparedRun]) -> dict[str, Any]:
    """The values that the template shows for the runs on one split."""
    title, known = " ".join(" ".join(runs[0].split).split()), published(*runs[0].split)
    sequences = list(dict.fromkeys(name for run in runs for name in run.results["sequences"]))
    scores = {name: [run.sequence_score(name) for run in runs] for name in sequences}
    return {
        "title": title,
        "rule": runs[0].results["dataset"]["rule"],
        "runs": runs,
        "tables": [
            TitledTable(title, ScoreTable.of(runs, known)),
            TitledTable(f"{title}: J by sequence", j_by_sequence(runs, sequences)),
        ],
        "size_chart": size_chart(title, runs),
        "reliability_chart": reliability_chart(title, tracking_predictions(runs)),
        "speed_chart": _speed_chart(title, runs, known),
        "sequence_chart": _sequence_chart(title, scores, [run.colour for run in runs]),
        "worst": [_sequence(name, runs) for name in _worst_sequences(scores)],
    }


def _speed_chart(title: str, runs: list[ComparedRun], known: list[Published]) -> str:
    """Accuracy against speed; empty if no run has both."""
    overall = runs[0].results["dataset"]["overall"]
    dots = [
        Dot(run.label, run.fps, 100 * score, run.colour)
        for run in runs
        if run.fps and (score := run.results["scores"][run.results["dataset"]["overall"]]) is not None
    ]
    if not dots:
        return ""
    dots += [Dot(f"{row.method} ({row.hardware})", row.fps, row.percent) for row in known if row.fps]
    return accuracy_against_speed(f"{title}: accuracy against speed", dots, f"{overall}, percent")


def _sequence_chart(title: str, scores: dict[str, list[float | None]], colours: list[str]) -> str:
    """Bars by sequence, the one with the lowest score first."""
    rows = [(name, [None if v is None else 100 * v for v in values]) for name, values in scores.items()]
    rows.sort(key=lambda row: min((v for v in row[1] if v is not None), default=101.0))
    return bars_by_row(f"{title}: scores by sequence", rows, colours)


def _worst_sequences(scores: dict[str, list[float | None]]) -> list[str]:
    """The sequences with the lowest mean score over the runs."""
    scored = {name: [v for v in values if v is not None] for name, values in scores.items()}
    means = {name: sum(values) / len(values) for name, values in scored.items() if values}
    return sorted(means, key=lambda name: means[name])[:WORST_SEQUENCES]


def _sequence(name: str, runs: list[ComparedRun]) -> dict[str, Any]:
    """The curves of all runs for the object with the lowest J, and its worst frames."""
    means = {k: found["J_mean"] for run in runs for k, found in run.objects(name).items() if found["J"]}
    number = min(means, key=lambda k: means[k])
    members = [(run, run.objects(name)[number]) for run in runs if number in run.objects(name)]
    galleries = [Gallery(run.folder, name, number) for run, _ in members]
    complete = next((gallery.frames for gallery in galleries if gallery.frames), ())
    scored = {frame for _, found in members for frame in found["frames"]}
    frames = complete if scored <= set(complete) else sorted(scored)
    position = {frame: index for index, frame in enumerate(frames)}
    curves, marked, images = [], set(), []
    for (run, found), gallery in zip(members, galleries, strict=True):
        positions = [position[frame] for frame in found["frames"]]
        curves.append(Series(run.label, run.colour, positions, found["J"]))
        for worst in worst_frames(found["J"]):
            marked.add(positions[worst])
            frame, score = found["frames"][worst], found["J"][worst]
            image = gallery.thumbnail(frame)
            if image is not None:
                images.append({"uri": jpeg_uri(image), "caption": f"{run.label}: frame {frame}, J {score:.2f}"})
    title = f"{name}, object {number}" if len(means) > 1 else name
    chart = scores_over_frames(f"{title}: J over frames", curves, len(frames), sorted(marked))
    return {"title": title, "chart": chart, "images": images}


def worst_frames(values: Sequence[float], count: int = 3) -> list[int]:
    """Return the indices of the lowest values, ascending, no two of them close to each other."""
    chosen: list[int] = []
    for index in sorted(range(len(values)), key=lambda k: values[k]):
        if all(abs(index - other) > len(values) // 10 for other in chosen):
            chosen.append(index)
        if len(chosen) == count:
            break
    return sorted(chosen)
