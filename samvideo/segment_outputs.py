"""The result files of `samvideo segment`: mask images, overlays, RLE with all candidates, a table, and COCO.

Every file is complete and readable after each image, but that of COCO, which is written at the end.
"""

import csv
import io
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from samvideo.errors import OutputError
from samvideo.geometry import mask_box
from samvideo.io.files import replacing, writing
from samvideo.io.masks import encode_rle, index_map, write_index_png
from samvideo.outputs import AlternatingFile, GrowingFile
from samvideo.render import overlay
from samvideo.run_base import ResultFiles
from samvideo.segment_coco import CocoInstances
from samvideo.segment_folder import FILES, FOLDERS, JOURNAL, image_file, journal_line
from samvideo.segmenters.base import Segmentation
from samvideo.trackers.stills import frame_result
from samvideo.types import FrameResult, UInt8Array

FORMAT = "samvideo-segments-1"
COLUMNS = ("image", "object", "quality", "area", "x1", "y1", "x2", "y2")
JPEG_QUALITY = 92


@dataclass(frozen=True, eq=False)
class SegmentedImage:
    """An image and its objects, by ascending id.

    Attributes:
        name: of its file; results are named by its stem.
        rgb: uint8 (H, W, 3).
        found: one entry per object.
        labels: of the objects that have one, by id.
    """

    name: str
    rgb: UInt8Array
    found: Sequence[Segmentation]
    labels: Mapping[int, str] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return Path(self.name).stem

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]

    def result(self) -> FrameResult:
        """The chosen masks as the result of a frame."""
        return replace(frame_result(self.found, 0, 0.0, self.size_wh), labels=self.labels)


class SegmentOutputs(ResultFiles):
    """The result files of images in one folder.

    Args:
        folder: exists, see `samvideo.segment_folder.prepare_segment_folder`.
        kinds: some of `samvideo.segment_folder.KINDS`.
        multimask: whether every candidate gets a mask image.
        layered: smaller masks lie on larger ones in mask images, whatever their quality, so that none is hidden.
        labelled: whether objects may have labels: the table has a column for them.

    Attributes:
        names: of the files written so far, relative to the folder.
    """

    def __init__(
        self,
        folder: Path,
        kinds: Collection[str],
        multimask: bool = False,
        labelled: bool = False,
        layered: bool = False,
    ) -> None:
        super().__init__(folder, {kind: folder / FILES.get(kind, kind) for kind in kinds}, "images")
        self._multimask, self._labelled, self._layered = multimask, labelled, layered
        self._instances = CocoInstances()
        self.names: list[str] = []
        self._writers: dict[str, Callable[[SegmentedImage], None]] = {}
        with writing(folder), ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()

    def _open(self, stack: ExitStack) -> None:
        self._journal = stack.enter_context(GrowingFile(self.folder / JOURNAL))
        for kind in self.files:
            if kind in FOLDERS:
                (self.folder / kind).mkdir(exist_ok=True)
                self._writers[kind] = self._write_masks if kind == "masks" else self._write_overlay
            else:
                self._note(FILES[kind])
                self._writers[kind] = {
                    "csv": self._open_table,
                    "rle": self._open_document,
                    "coco": self._open_instances,
                }[kind](stack)

    def write(self, image: SegmentedImage) -> None:
        """Add the results of one image."""
        for kind, writer in self._writers.items():
            with self._writing(kind):
                writer(image)

    def _note(self, name: str) -> Path:
        """Note a file in the journal, before it is written; returns its path."""
        self._journal.append(journal_line(name))
        self.names.append(name)
        return self.folder / name

    def _write_masks(self, image: SegmentedImage) -> None:
        self._write_mask(image, None)
        if self._multimask:
            for candidate in range(max(len(one.masks_nhw) for one in image.found)):
                self._write_mask(image, candidate)

    def _write_mask(self, image: SegmentedImage, candidate: int | None) -> None:
        """Write the candidate of that number of every object that has it, or the chosen ones.

        Where masks overlap, the higher quality wins; if all are alike, as of models that do not rate, the smaller
        mask, so that a large one never hides all of it.
        """
        shown = [one for one in image.found if candidate is None or candidate < len(one.masks_nhw)]
        rows = [one.chosen if candidate is None else candidate for one in shown]
        pairs = sorted(zip(shown, rows, strict=True), key=lambda pair: -int(pair[0].masks_nhw[pair[1]].sum()))
        masks = np.array([one.masks_nhw[row] for one, row in pairs], bool).reshape(-1, *image.rgb.shape[:2])
        qualities = [float(one.quality_n[row]) for one, row in pairs]
        with replacing(self._note(image_file("masks", image.stem, candidate))) as part:
            scores = None if self._layered else qualities
            write_index_png(part, index_map(masks, [one.object_id for one, _ in pairs], scores))

    def _write_overlay(self, image: SegmentedImage) -> None:
        drawn = overlay(image.rgb, image.result())
        path = self._note(image_file("overlay", image.stem))
        done, data = cv2.imencode(".jpg", drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not done:
            raise OutputError(f"{path} cannot be encoded as JPEG: at most 65500 pixels a side are possible")
        with replacing(path) as part:
            part.write_bytes(data.tobytes())

    def _open_document(self, stack: ExitStack) -> Callable[[SegmentedImage], None]:
        head = json.dumps({"format": FORMAT})[:-1] + ', "images": ['
        document = stack.enter_context(AlternatingFile(self.folder / FILES["rle"], head, "\n]}\n"))
        commas = iter(("",))

        def write(image: SegmentedImage) -> None:
            document.append(f"{next(commas, ',')}\n{json.dumps(image_entry(image))}")

        return write

    def _open_instances(self, stack: ExitStack) -> Callable[[SegmentedImage], None]:
        def finish() -> None:
            with replacing(self.folder / FILES["coco"]) as part:
                self._instances.write(part)

        finish()
        stack.callback(finish)
        return lambda image: self._instances.add(image.name, image.size_wh, image.found, image.labels)

    def _open_table(self, stack: ExitStack) -> Callable[[SegmentedImage], None]:
        head = ",".join(COLUMNS) + ",label" * self._labelled + "\n"
        table = stack.enter_context(GrowingFile(self.folder / FILES["csv"], head))

        def write(image: SegmentedImage) -> None:
            rows = io.StringIO()
            for one in image.found:
                box = [f"{side:g}" for side in mask_box(one.best) or ()] or [""] * 4
                cells = [image.name, one.object_id, f"{one.quality_n[one.chosen]:.4f}", int(one.best.sum()), *box]
                cells += [image.labels.get(one.object_id, "")] if self._labelled else []
                csv.writer(rows, lineterminator="\n").writerow(cells)
            table.append(rows.getvalue())

        return write


def image_entry(image: SegmentedImage) -> dict[str, Any]:
    """Return the JSON object of one image in `segments.json`."""
    width, height = image.size_wh
    objects = []
    for one in image.found:
        candidates = [_candidate(one, row) for row in range(len(one.masks_nhw))]
        label = {"label": image.labels[one.object_id]} if one.object_id in image.labels else {}
        objects.append({"id": one.object_id, **label, "chosen": one.chosen, "candidates": candidates})
    return {"image": image.name, "width": width, "height": height, "objects": objects}


def _candidate(found: Segmentation, row: int) -> dict[str, Any]:
    mask = found.masks_nhw[row]
    x1, y1, x2, y2 = mask_box(mask) or (0.0, 0.0, 0.0, 0.0)
    bbox = [x1, y1, x2 - x1, y2 - y1]
    quality = round(float(found.quality_n[row]), 4)
    return {"quality": quality, "area": int(mask.sum()), "bbox": bbox, "segmentation": encode_rle(mask)}
