"""Runs that are compared, and their scores beside published ones: as cells, as Markdown and as LaTeX."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samvideo.errors import ConfigError
from samvideo.evaluation.published import Published
from samvideo.evaluation.results import read_results
from samvideo.reporting.charts import COLOURS

SCORES = {
    "J&F": "J&F",
    "J": "J_mean",
    "J recall": "J_recall",
    "J decay": "J_decay",
    "F": "F_mean",
    "F recall": "F_recall",
    "F decay": "F_decay",
    "Dice": "Dice_mean",
}
SPECIAL_SCORES = {
    "G": "G",
    "challenge IoU": "challenge_iou",
    "class IoU": "class_iou",
    "mean class IoU": "mean_class_iou",
}
"""Scores that only some benchmarks have; they come first."""
CONFIDENCE_SCORES = {
    "absent reported": "absent_reported",
    "present missed": "present_missed",
    "found again": "found_again",
    "calibration error": "calibration_error",
}
"""Scores of `samvideo.evaluation.confidence`, where a run has them."""


@dataclass(frozen=True)
class ComparedRun:
    """A run in a report.

    Attributes:
        label: unique name.
        colour: the same in all charts.
        results: content of its `results.json`.
        folder: where its masks may be.
    """

    label: str
    colour: str
    results: Mapping[str, Any]
    folder: Path

    @property
    def split(self) -> tuple[str, str]:
        """Data set and split."""
        return self.results["dataset"]["name"], self.results["dataset"]["split"]

    @property
    def fps(self) -> float | None:
        """Frames per second in the tracker, None for masks made elsewhere."""
        fps: float | None = (self.results["timing"] or {"fps": None})["fps"]
        return fps

    @property
    def shared(self) -> float | None:
        """Share of the tracker's time that was spent once for several policies; None if it ran alone."""
        timing = self.results["timing"] or {}
        shared = timing.get("shared_seconds")
        return shared / timing["track_seconds"] if self.fps and shared is not None else None

    def objects(self, sequence: str) -> Mapping[str, Any]:
        """Scores by object of a sequence, empty if the run lacks it."""
        found: Mapping[str, Any] = self.results["sequences"].get(sequence, {"objects": {}})["objects"]
        return found

    def sequence_score(self, sequence: str) -> float | None:
        """Mean of J and F over the objects of a sequence, a fraction."""
        scored = [
            (found["J_mean"] + found["F_mean"]) / 2 for found in self.objects(sequence).values() if found["J"]
        ]
        return sum(scored) / len(scored) if scored else None


def load_runs(paths: Sequence[Path], read: Callable[[Path], dict[str, Any]] = read_results) -> list[ComparedRun]:
    """Read results; runs whose labels would be equal get the names of their folders too.

    Args:
        paths: of the results, or their folders.
        read: reads them.

    Raises:
        DatasetError: one is not a `results.json`.
        ConfigError: none is given.
    """
    if not paths:
        raise ConfigError("a report needs at least one results.json, or the folder of a run")
    results = [read(path) for path in paths]
    keys = [(_label(tree), tree["dataset"]["name"]) for tree in results]
    runs = []
    for number, (path, key, tree) in enumerate(zip(paths, keys, results, strict=True)):
        source = path.resolve().stem if path.is_dir() else path.name
        label = f"{key[0]} ({source})" if keys.count(key) > 1 else key[0]
        folder = path if path.is_dir() else path.parent
        runs.append(ComparedRun(label, COLOURS[number % len(COLOURS)], tree, folder))
    return runs


def _label(results: Mapping[str, Any]) -> str:
    protocol = results["protocol"]["name"]
    if "measures" in results["protocol"]:  # they are columns
        protocol = results["protocol"].get("prompter") or ""
    name = " ".join(results["model"]["name"].split())
    name = name.lstrip("_") or "unnamed"  # Matplotlib leaves out labels that begin with _
    policy = " ".join(str(results["model"]["options"].get("policy") or "").split())
    return ", ".join([name, *filter(None, [policy, "" if protocol in ("mask", "unknown") else protocol])])


@dataclass(frozen=True)
class ScoreTable:
    """Cells as text. The first column is the method, the last the source."""

    header: list[str]
    measured: list[list[str]]
    published: list[list[str]]

    @classmethod
    def of(cls, runs: Sequence[ComparedRun], known: Sequence[Published]) -> "ScoreTable":
        """Compare runs, best first, with published scores, which have a value for the first score only."""
        special, confidence = (
            {title: key for title, key in some.items() if any(key in r.results["scores"] for r in runs)}
            for some in (SPECIAL_SCORES, CONFIDENCE_SCORES)
        )
        scores = special | SCORES | confidence
        cost: dict[str, Callable[[ComparedRun], str]] = {"fps": lambda run: f"{run.fps:.1f}" if run.fps else "–"}
        if any(run.shared is not None for run in runs):
            cost["ms a frame"] = lambda run: f"{1000 / run.fps:.1f}" if run.fps else "–"
            cost["shared encoding"] = lambda run: "–" if run.shared is None else f"{run.shared:.0%}"
        measured = [
            [
                run.label,
                *(_percent(run.results["scores"].get(key)) for key in scores.values()),
                *(cell(run) for cell in cost.values()),
                str(run.results["scores"]["objects"]),
                _source(run),
            ]
            for run in sorted(runs, key=lambda run: -(run.results["scores"]["J&F"] or 0))
        ]
        blank = [""] * (len(scores) - 1)
        published = []
        for row in known:
            fps = f"{row.fps:.1f} {row.hardware}" if row.fps else ""
            cells = [f"{row.percent:.1f}", *blank, fps, *[""] * len(cost)]  # the last one for the objects
            published.append([row.method, *cells, f"published: {row.source}"])
        return cls(["method", *scores, *cost, "objects", "source"], measured, published)

    def markdown(self, title: str) -> str:
        """The table as Markdown, under a heading."""
        rows = [self.header, ["---"] * len(self.header), *self.measured, *self.published]
        text = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
        return f"## {title}\n\n{text}\n"

    def latex(self, title: str) -> str:
        """The table as LaTeX for booktabs; sources become comments."""
        lines = [
            f"% {title}; needs \\usepackage{{booktabs}}",
            f"\\begin{{tabular}}{{l{'r' * (len(self.header) - 2)}}}",
            "\\toprule",
            _latex_row(self.header),
            "\\midrule",
            *map(_latex_row, self.measured),
        ]
        if self.published:
            rows = (_latex_row([f"{row[0]} (published)", *row[1:]]) for row in self.published)
            lines += ["\\midrule", *rows]
        return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def j_by_sequence(runs: Sequence[ComparedRun], sequences: Sequence[str]) -> ScoreTable:
    """One row for each sequence, with the mean J of its objects in each run."""
    rows = []
    for name in sequences:
        scores = [[one["J_mean"] for one in run.objects(name).values() if one["J"]] for run in runs]
        cells = [_percent(sum(values) / len(values) if values else None) for values in scores]
        rows.append([name, *cells, str(max(len(run.objects(name)) for run in runs))])
    return ScoreTable(["sequence", *(run.label for run in runs), "objects"], rows, [])


@dataclass(frozen=True)
class TitledTable:
    """A table with its heading, and a note below."""

    title: str
    table: ScoreTable
    note: str = ""

    def markdown(self) -> str:
        """The table as Markdown, under its heading."""
        return self.table.markdown(self.title) + (f"\n{self.note}\n" if self.note else "")

    def latex(self) -> str:
        """The table as LaTeX; the note becomes a comment."""
        return (f"% {self.note}\n" if self.note else "") + self.table.latex(self.title)


def _percent(fraction: float | None) -> str:
    return "–" if fraction is None else f"{100 * fraction:.1f}"


def _source(run: ComparedRun) -> str:
    count = len(run.results["sequences"])
    objects = run.results["dataset"]["objects"]
    chosen = f", objects {', '.join(map(str, objects))} only" if objects else ""
    return f"measured, {count} sequence{'s' if count != 1 else ''}{chosen}"


def _latex_row(row: Sequence[str]) -> str:
    escaped = {character: f"\\{character}" for character in "&%_#${}"}
    words = {"\\": "\\textbackslash{}", "^": "\\textasciicircum{}", "~": "\\textasciitilde{}", "–": "--"}
    special = str.maketrans(escaped | words)
    cells = [cell.translate(special) for cell in row]
    return " & ".join(cells[:-1]) + f" \\\\ % {row[-1]}"
