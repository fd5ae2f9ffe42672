"""Runs compared on one self-contained page, published numbers beside them, also as Markdown and LaTeX."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from samvideo.errors import ConfigError
from samvideo.evaluation.charts import COLOURS, Dot, bars, lines, scatter
from samvideo.evaluation.published import Published, published
from samvideo.evaluation.results import read_results, write_atomically
from samvideo.evaluation.thumbnails import Gallery

WORST_SEQUENCES = 3
COLUMNS = (
    ("J&F", "J&F"),
    ("J", "J_mean"),
    ("J recall", "J_recall"),
    ("J decay", "J_decay"),
    ("F", "F_mean"),
    ("F recall", "F_recall"),
    ("F decay", "F_decay"),
    ("Dice", "Dice_mean"),
)
EXTRA = (
    ("G", "G"),
    ("challenge IoU", "challenge_iou"),
    ("class IoU", "class_iou"),
    ("mean class IoU", "mean_class_iou"),
)


@dataclass(frozen=True)
class Entry:
    """One run on the page.

    Attributes:
        label: tells it from the others.
        colour: the same in all drawings.
        results: its `results.json`.
        folder: where its masks may lie.
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


def load(paths: Sequence[Path]) -> list[Entry]:
    """Read the results; equal labels are told apart by their folders' names.

    Raises:
        DatasetError: one is no `results.json`.
        ConfigError: none is given.
    """
    if not paths:
        raise ConfigError("a report needs at least one results.json, or the folder of a run")
    found = [(read_results(path), path if path.is_dir() else path.parent, path) for path in paths]
    labels = [_label(results) for results, _, _ in found]
    keys = [(label, results["dataset"]["name"]) for label, (results, _, _) in zip(labels, found, strict=True)]
    return [
        Entry(
            f"{label} ({path.resolve().stem if path.is_dir() else path.name})" if keys.count(key) > 1 else label,
            COLOURS[number % len(COLOURS)],
            results,
            folder,
        )
        for number, (label, key, (results, folder, path)) in enumerate(zip(labels, keys, found, strict=True))
    ]


def _label(results: Mapping[str, Any]) -> str:
    protocol = results["protocol"]["name"]
    return str(results["model"]["name"]) + ("" if protocol in ("mask", "unknown") else f", {protocol}")


def write_report(paths: Sequence[Path], out: Path) -> list[Path]:
    """Write the page, and the tables beside it as .md and .tex; gives the three paths.

    Raises:
        DatasetError, ConfigError: see `load`.
        OutputError: a file cannot be written.
    """
    entries = load(paths)
    splits: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        splits.setdefault(entry.split, []).append(entry)
    sections = [_section(split, members) for split, members in splits.items()]
    files = {
        out: PAGE.replace("BODY", "\n".join(sections)),
        out.with_suffix(".md"): "\n".join(markdown(split, members) for split, members in splits.items()),
        out.with_suffix(".tex"): "\n".join(latex(split, members) for split, members in splits.items()),
    }
    for path, text in files.items():
        write_atomically(path, text)
    return list(files)


def _section(split: tuple[str, str], entries: list[Entry]) -> str:
    known = published(*split)
    worst = _worst_sequences(entries)
    parts = [
        f"<h1>{escape(' '.join(split))}</h1>",
        f"<p>{escape(entries[0].results['dataset']['rule'])}. {_legend(entries)}</p>",
        _html_table(entries, known),
        _failures(entries),
        "<h2>Accuracy against speed</h2>",
        _scatter(entries, known),
        "<h2>By sequence: mean of J and F, percent</h2>",
        _bars(entries),
        "<h2>Worst sequences: J over time</h2>" if worst else "",
        *(_sequence(name, entries) for name in worst),
        "<h2>Protocol and machine</h2>",
        _machines(entries),
    ]
    return "\n".join(part for part in parts if part)


def _legend(entries: list[Entry]) -> str:
    return " ".join(f'<span class="key" style="background:{e.colour}"></span>{escape(e.label)}' for e in entries)


def percent(value: float | None) -> str:
    """A fraction as the tables show it."""
    return "–" if value is None else f"{100 * value:.1f}"


def _columns(entries: list[Entry]) -> list[tuple[str, str]]:
    extra = [column for column in EXTRA if any(column[1] in entry.results["scores"] for entry in entries)]
    return [*extra, *COLUMNS]


def _rows(entries: list[Entry], known: list[Published]) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """Header, rows of the runs, rows of published methods (whose one number stands under the leading column)."""
    columns = _columns(entries)
    header = ["method", *(title for title, _ in columns), "fps", "objects", "source"]
    own = [
        [
            entry.label,
            *(percent(entry.results["scores"].get(key)) for _, key in columns),
            f"{entry.fps:.1f}" if entry.fps else "–",
            str(entry.results["scores"]["objects"]),
            _source(entry),
        ]
        for entry in sorted(entries, key=lambda entry: -(entry.results["scores"]["J&F"] or 0))
    ]
    blank = [""] * (len(columns) - 1)
    others = [
        [
            p.method,
            f"{p.percent:.1f}",
            *blank,
            f"{p.fps:.1f} {p.hardware}" if p.fps else "",
            "",
            f"published: {p.source}",
        ]
        for p in known
    ]
    return header, own, others


def _source(entry: Entry) -> str:
    count = len(entry.results["sequences"])
    objects = entry.results["dataset"]["objects"]
    chosen = f", objects {', '.join(map(str, objects))} only" if objects else ""
    return f"measured, {count} sequence{'s' if count != 1 else ''}{chosen}"


def _html_table(entries: list[Entry], known: list[Published]) -> str:
    header, own, others = _rows(entries, known)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = [f"<tr class=own>{_cells(row)}</tr>" for row in own] + [f"<tr>{_cells(row)}</tr>" for row in others]
    note = (
        "Published numbers are their authors', on the whole split and on their hardware; a part of the split is "
        "not comparable with them."
        if known
        else "No published numbers are on file for this split."
    )
    return f"<div class=wide><table><tr>{head}</tr>{''.join(body)}</table></div><p class=note>{note}</p>"


def _cells(row: Sequence[str]) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in row)


def markdown(split: tuple[str, str], entries: list[Entry]) -> str:
    """The table as Markdown."""
    header, own, others = _rows(entries, published(*split))
    rows = [header, ["---"] * len(header), *own, *others]
    text = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return f"## {' '.join(split)}\n\n{text}\n"


def latex(split: tuple[str, str], entries: list[Entry]) -> str:
    """The table as LaTeX, for booktabs; the source is left to comments."""
    header, own, others = _rows(entries, published(*split))
    lines_ = [
        f"% {' '.join(split)}; needs \\usepackage{{booktabs}}",
        f"\\begin{{tabular}}{{l{'r' * (len(header) - 2)}}}",
    ]
    lines_ += ["\\toprule", _latex_row(header), "\\midrule", *(_latex_row(row) for row in own)]
    if others:
        lines_ += ["\\midrule", *(_latex_row([f"{row[0]} (published)", *row[1:]]) for row in others)]
    return "\n".join([*lines_, "\\bottomrule", "\\end{tabular}\n"])


def _latex_row(row: Sequence[str]) -> str:
    special = {"&": "\\&", "%": "\\%", "_": "\\_", "#": "\\#", "–": "--"}
    cells = ["".join(special.get(letter, letter) for letter in cell) for cell in row]
    return " & ".join(cells[:-1]) + f" \\\\ % {row[-1]}"


def _failures(entries: list[Entry]) -> str:
    items = [
        f"<li>{escape(entry.label)}, {escape(name)}: {escape(failure['message'])}</li>"
        for entry in entries
        for name, failure in entry.results["failed"].items()
    ]
    return f"<h2 class=bad>Failed, and not in the means</h2><ul>{''.join(items)}</ul>" if items else ""


def _scatter(entries: list[Entry], known: list[Published]) -> str:
    dots = [
        Dot(
            entry.label, entry.fps, 100 * entry.results["scores"][entry.results["dataset"]["overall"]], entry.colour
        )
        for entry in entries
        if entry.fps and entry.results["scores"]["J&F"] is not None
    ]
    if not dots:
        return "<p class=note>No run with a measured speed and a score.</p>"
    dots += [Dot(f"{p.method} ({p.hardware})", p.fps, p.percent) for p in known if p.fps]
    note = "<p class=note>Filled: measured on the machines below. Hollow: published, on the hardware named.</p>"
    return scatter(dots, f"{entries[0].results['dataset']['overall']}, percent") + (note if known else "")


def _names(entries: list[Entry]) -> list[str]:
    return list(dict.fromkeys(name for entry in entries for name in entry.results["sequences"]))


def sequence_score(entry: Entry, name: str) -> float | None:
    """Mean of J and F over a sequence's objects, a fraction."""
    objects = entry.results["sequences"].get(name, {"objects": {}})["objects"].values()
    scored = [(found["J_mean"] + found["F_mean"]) / 2 for found in objects if found["J"]]
    return sum(scored) / len(scored) if scored else None


def _bars(entries: list[Entry]) -> str:
    scores = {name: [sequence_score(entry, name) for entry in entries] for name in _names(entries)}
    rows = [(name, [None if v is None else 100 * v for v in values]) for name, values in scores.items()]
    rows.sort(key=lambda row: min((v for v in row[1] if v is not None), default=101.0))
    return bars(rows, [entry.colour for entry in entries])


def _worst_sequences(entries: list[Entry]) -> list[str]:
    """The sequences where the runs do worst, on average."""
    scored = {}
    for name in _names(entries):
        values = [v for entry in entries if (v := sequence_score(entry, name)) is not None]
        if values:
            scored[name] = sum(values) / len(values)
    return sorted(scored, key=lambda name: scored[name])[:WORST_SEQUENCES]


def _sequence(name: str, entries: list[Entry]) -> str:
    """Curves of all runs for the object that fares worst, and its worst frames."""
    objects = {
        number: found["J_mean"]
        for entry in entries
        for number, found in entry.results["sequences"].get(name, {"objects": {}})["objects"].items()
        if found["J"]
    }
    number = min(objects, key=lambda key: objects[key])
    members = [e for e in entries if number in e.results["sequences"].get(name, {"objects": {}})["objects"]]
    galleries = {entry.label: Gallery(entry.folder, name, number) for entry in members}
    order = next((g.frames for g in galleries.values() if g.frames), None)
    frames = order or sorted(
        {f for e in members for f in e.results["sequences"][name]["objects"][number]["frames"]}
    )
    places = {frame: index for index, frame in enumerate(frames)}
    curves, marks, figures = {}, [], []
    for entry in members:
        found = entry.results["sequences"][name]["objects"][number]
        curves[entry.label] = ([places[frame] for frame in found["frames"]], found["J"], entry.colour)
        for place in worst_frames(found["J"]):
            marks.append(places[found["frames"][place]])
            picture = galleries[entry.label].picture(found["frames"][place])
            if picture is not None:
                caption = f"{entry.label}: frame {found['frames'][place]}, J {found['J'][place]:.2f}"
                figures.append(_figure(picture, caption))
    title = f"{name}, object {number}" if len(objects) > 1 else name
    note = (
        ""
        if figures
        else "<p class=note>No pictures: the masks or the data set are not where the run left them.</p>"
    )
    shown = f"<div class=shots>{''.join(figures)}</div>" if figures else note
    return f"<h3>{escape(title)}</h3>{lines(curves, len(frames), sorted(set(marks)))}{shown}"


def worst_frames(values: Sequence[float], count: int = 3) -> list[int]:
    """The places of the lowest values, no two close to each other, in order of time."""
    chosen: list[int] = []
    for place in sorted(range(len(values)), key=lambda k: values[k]):
        if all(abs(place - other) > len(values) // 10 for other in chosen):
            chosen.append(place)
        if len(chosen) == count:
            break
    return sorted(chosen)


def _figure(jpeg: bytes, caption: str) -> str:
    data = base64.b64encode(jpeg).decode()
    image = f'<img src="data:image/jpeg;base64,{data}" alt="">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _machines(entries: list[Entry]) -> str:
    rows = []
    for entry in entries:
        results = entry.results
        versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
        computer = results["machine"]
        machine = f"{computer['processor']}, {computer['cores']} cores, {computer['system']}"
        options = ", ".join(f"{key}={value}" for key, value in results["model"]["options"].items())
        model = results["model"]["name"] + (f" ({options})" if options else "")
        timing = results["timing"]
        spent = f"{timing['frames']} frames, {timing['track_seconds']:.0f} s in the tracker" if timing else "–"
        rows.append([entry.label, model, results["protocol"]["description"], spent, machine, versions])
    head = "".join(f"<th>{title}</th>" for title in ("run", "model", "protocol", "time", "machine", "versions"))
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return f"<div class=wide><table class=left><tr>{head}</tr>{body}</table></div>"


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>samvideo report</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em; color: #222 }
h1 { font-size: 1.6em; border-bottom: 2px solid #222 }
h2 { font-size: 1.2em; margin-top: 2em } h3 { margin-bottom: 0 }
table { border-collapse: collapse; font-size: 13px } th, td { padding: 3px 9px; text-align: right }
th { border-bottom: 1px solid #222 } td { border-bottom: 1px solid #e5e5e5; color: #666 }
td, th { white-space: nowrap } td:last-child, .left td { white-space: normal }
th:first-child, td:first-child, th:last-child, td:last-child, .left td, .left th { text-align: left }
.own td { color: #000; background: #eef5fb; font-weight: 600 } .own td:last-child { font-weight: normal }
.wide { overflow-x: auto } .note { color: #666; font-size: 13px } .bad { color: #b00 }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .8em }
svg { max-width: 100%; height: auto } figure { margin: 0 } figcaption { font-size: 12px; color: #555 }
.shots { display: grid; grid-template-columns: repeat(3, 1fr); gap: 10px }
.shots img { width: 100%; display: block }
</style></head><body>
BODY
<p class="note">Thumbnails: <b style="color:#00a000">green</b> the ground truth's outline,
<b style="color:#e00000">red</b> the prediction's, lightly filled. Scores in percent; J and F as in the DAVIS
benchmarks. Written by samvideo report.</p>
</body></html>
"""
