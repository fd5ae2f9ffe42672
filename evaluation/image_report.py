"""The part of a report on images: runs on one data set compared, and the published scores beside."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, TypeAdapter

from samvideo.errors import ConfigError, SamVideoError
from samvideo.evaluation.image_evaluation import FOLDER, open_pictures
from samvideo.evaluation.image_results import (
    image_predictions,
    main_measures,
    read_image_entry,
    read_image_results,
    size_of,
)
from samvideo.evaluation.published import published_images
from samvideo.evaluation.score_charts import Predictions, reliability_chart
from samvideo.evaluation.score_tables import ComparedRun, ScoreTable, TitledTable, load_runs
from samvideo.evaluation.thumbnails import outlined
from samvideo.geometry import mask_box
from samvideo.io.mask_pictures import MaskRule
from samvideo.io.rle import decode_rle
from samvideo.io.schema import read_json
from samvideo.reporting.charts import bars_by_row
from samvideo.reporting.pages import jpeg_uri
from samvideo.types import UInt8Array

WORST_OBJECTS = 6
MARGIN = 0.5
"""Of a thumbnail around an object, as a share of its size."""
PUBLISHED = "Published scores on images"


class _Run(BaseModel):
    root: Path
    split: str | None
    reading: MaskRule
    dataset: str | None = None
    sequences: tuple[str, ...] = ()
    objects: tuple[int, ...] = ()


_RUN = TypeAdapter(_Run)


def image_sections(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The values that the template shows for runs on images; none without runs.

    One section for each data set, and another for the proposals on it.

    Raises:
        DatasetError: a file is not a results file.
    """
    sections: dict[tuple[bool, tuple[str, str]], list[ComparedRun]] = {}
    for run in load_runs(paths, read_image_results) if paths else ():
        sections.setdefault((_is_prompted(run), run.split), []).append(run)
    return [_section(runs) for runs in sections.values()]


def published_table() -> TitledTable:
    """The table of published scores."""
    note = (
        "Percent. Each row is what its source states. Sources differ in boxes, in the choice among masks and in "
        "hardware: compare rows of one source only. None of the numbers was measured here, or on the data above."
    )
    columns, rows = published_images()
    return TitledTable(PUBLISHED, ScoreTable(columns, [], rows), note)


def _is_prompted(run: ComparedRun) -> bool:
    """Whether the ground truth prompted, rather than a prompter."""
    return run.results["protocol"]["prompter"] is None


def _section(runs: list[ComparedRun]) -> dict[str, Any]:
    dataset = runs[0].results["dataset"]
    kind, scored = ("Images", "IoU") if _is_prompted(runs[0]) else ("Proposals", "Scores")
    title = f"{kind}: {' '.join(runs[0].split)}"
    parts = {f"{scored} by set": "sets", f"{scored} by size of the object": "sizes"}
    tables = [TitledTable(f"{scored}, percent", _scores(runs), _note(runs))]
    tables += [TitledTable(f"{name}, percent", _by_part(runs, key)) for name, key in parts.items()]
    first = _shown(runs)[0]
    rows = [(name, [_percent_in(run, name, first) for run in runs]) for name in _names(runs, "sets")]
    rows.sort(key=lambda row: min((v for v in row[1] if v is not None), default=101.0))
    colours = [run.colour for run in runs]
    chart = bars_by_row(f"{title}: {scored} by set, {first}", rows, colours) if len(rows) > 1 else ""
    return {
        "title": title,
        "description": dataset["description"],
        "runs": runs,
        "tables": tables,
        "set_chart": chart,
        "reliability_chart": reliability_chart(title, _predictions(runs)),
        "worst": [{"title": measure, "images": _worst(runs, measure)} for measure in _shown(runs)],
    }


def _predictions(runs: Sequence[ComparedRun]) -> Iterator[tuple[str, Predictions]]:
    for run in runs:
        for measure in _shown([run]):
            objects = (one for image in run.results["images"].values() for one in image["objects"].values())
            label = f"{run.label}: {measure}" if len(runs) > 1 else measure
            yield label, image_predictions(objects, measure)


def _note(runs: list[ComparedRun]) -> str:
    note = "Means over objects; the standard error takes the objects of one image as dependent."
    if len({run.results["dataset"]["fingerprint"] for run in runs}) > 1:
        note += " The runs have not scored the same images: see the number of objects of each."
    return note


def _measures(runs: Iterable[ComparedRun]) -> list[str]:
    return list(dict.fromkeys(measure for run in runs for measure in run.results["protocol"]["measures"]))


def _shown(runs: Iterable[ComparedRun]) -> list[str]:
    """The measures of the smaller tables."""
    return main_measures(_measures(runs))


def _scores(runs: Sequence[ComparedRun]) -> ScoreTable:
    """One row for each run; the best candidate where there are several."""
    measures = _measures(runs)
    found = {run.label: run.results["scores"]["measures"] for run in runs}
    several = [m for m in measures if any(m in f and f[m]["oracle"] > f[m]["iou"] for f in found.values())]
    rows = []
    for run in sorted(runs, key=lambda run: -next((m["iou"] for m in found[run.label].values()), 0)):
        own, timing = found[run.label], run.results["timing"]
        rows.append(
            [
                run.label,
                *(_cell(own.get(measure)) for measure in measures),
                *(f"{100 * own[m]['oracle']:.1f}" if m in own else "–" for m in several),
                str(run.results["scores"]["objects"]),
                "–" if timing["median_seconds"] is None else f"{timing['median_seconds']:.3f}",
                _last_cell(run),
                f"measured, {run.results['scores']['images']} images",
            ]
        )
    best = [f"{measure}, best candidate" for measure in several]
    last = "s per prompt" if _is_prompted(runs[0]) else "proposals per image"
    header = ["model", *measures, *best, "objects", "s per image, median", last, "source"]
    return ScoreTable(header, rows, [])


def _last_cell(run: ComparedRun) -> str:
    """Seconds per prompt, or proposals per image."""
    timing, proposals = run.results["timing"], run.results["proposals"]
    if proposals is not None and timing["images"]:
        return f"{proposals / timing['images']:.1f}"
    return f"{timing['prompt_seconds'] / timing['prompts']:.4f}" if timing["prompts"] else "–"


def _cell(measure: Mapping[str, Any] | None) -> str:
    if measure is None:
        return "–"
    error = f" ± {100 * measure['error']:.1f}" if measure["error"] is not None else ""
    return f"{100 * measure['iou']:.1f}{error}"


def _names(runs: Sequence[ComparedRun], key: str) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name, part in run.results[key].items() if part["objects"]))


def _percent_in(run: ComparedRun, name: str, measure: str) -> float | None:
    found = run.results["sets"].get(name, {"measures": {}})["measures"].get(measure)
    return None if found is None else 100 * found["iou"]


def _by_part(runs: Sequence[ComparedRun], key: str) -> ScoreTable:
    """One row for each set or size, with the runs side by side."""
    columns = [(run, measure) for measure in _shown(runs) for run in runs]
    header = [key[:-1], *(f"{run.label}: {measure}" for run, measure in columns), "objects"]
    rows = []
    for name in _names(runs, key):
        parts = {run.label: run.results[key].get(name, {"objects": 0, "measures": {}}) for run in runs}
        cells = [_cell(parts[run.label]["measures"].get(measure)) for run, measure in columns]
        counts = dict.fromkeys(str(part["objects"]) for part in parts.values())
        rows.append([name, *cells, ", ".join(counts)])
    return ScoreTable(header, rows, [])


def _worst(runs: Sequence[ComparedRun], measure: str) -> list[dict[str, str]]:
    """Thumbnails of the objects with the lowest mean IoU over the runs; none where masks or pictures are gone."""
    scores: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        for name, image in run.results["images"].items():
            for key, found in image["objects"].items():
                if measure in found["iou"]:
                    scores.setdefault((name, key), []).append(found["iou"][measure])
    worst = sorted(scores, key=lambda each: float(np.mean(scores[each])))[:WORST_OBJECTS]
    galleries = {run.label: ObjectGallery(run.folder) for run in runs}
    shown = []
    for name, key in worst:
        for run in runs:
            found = run.results["images"].get(name, {"objects": {}})["objects"].get(key)
            picture = galleries[run.label].thumbnail(name, key, measure) if found else None
            if found and picture is not None:
                text = f"{name}, object {key} ({size_of(found['area'])}), IoU {found['iou'][measure]:.2f}"
                shown.append({"uri": jpeg_uri(picture), "caption": f"{run.label}: {text}"})
    return shown


class ObjectGallery:
    """The objects of a run on images, if its masks and data set are still there.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._images = folder, None
        try:
            run = read_json(folder / "run.json", _RUN, "the record of an evaluation", ConfigError)
            self._images = open_pictures(**vars(run))
        except (OSError, SamVideoError):
            return

    def thumbnail(self, name: str, key: str, measure: str) -> UInt8Array | None:
        """Draw an object and what lies around it, uint8 (H, W, 3); None if something is gone."""
        if self._images is None or name not in self._images.pictures:  # the name comes from a results.json
            return None
        try:
            rgb = self._images.read(name)
            size_wh = rgb.shape[1], rgb.shape[0]
            truth = self._images.masks(name, size_wh)[key]
            entry = read_image_entry(self._folder / FOLDER / f"{name}.json")
            prediction = decode_rle(entry["masks"][key][measure], size_wh)
        except (OSError, KeyError, SamVideoError):
            return None
        box = mask_box(truth | prediction)
        assert box is not None
        x, y = (MARGIN * (box[2] - box[0]), MARGIN * (box[3] - box[1]))
        part = (
            slice(max(0, round(box[1] - y)), round(box[3] + y)),
            slice(max(0, round(box[0] - x)), round(box[2] + x)),
        )
        return outlined(rgb[part], truth[part], prediction[part])
