"""Distil a light image model from the bundled one by several recipes, and print what share of its IoU each reaches.

    python demos/distil_table.py --objects OBJECTS --minutes 20 -o OUT

OBJECTS: `open/<set>/{images,masks}`; masks are for measuring alone: mean IoU of the answers to exact boxes on the
validation side of `samvideo.training.splits`. The student is the bundled model with one block in each stage of its
encoder, and begins with the teacher's layers. Minutes are of one CPU thread, at the speed of the first call,
without the teacher's features, which are kept, and validation. The same command resumes.
"""

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from samvideo.encoders import efficientnet_lite
from samvideo.specs import BUNDLED, NANO, SPECS
from samvideo.training.distil import Inputs, Pair, Plan, Steps, distil
from samvideo.training.image import box_iou, largest_objects
from samvideo.training.library import Library
from samvideo.training.losses import soft_iou
from samvideo.training.teacher_cache import TeacherCache

STUDENT, ENCODER = "nano-light", "efficientnet-lite0-light"
RECIPES = ("features", "prompts", "full", "layers", "sami")
TIMED = 10  # steps from which the number of all is taken, evenly over the course of a recipe


def register_student() -> None:
    """Make the student known by its name, in this process."""
    whole = efficientnet_lite.VARIANTS[NANO.encoder]
    efficientnet_lite.VARIANTS[ENCODER] = replace(whole, blocks=1)
    SPECS[STUDENT] = BUNDLED[STUDENT] = replace(NANO, name=STUDENT, encoder=ENCODER)


def affordable(inputs: Inputs, plan: Plan, seconds: float) -> int:
    """How many steps fit into a time of the CPU."""
    pair = Pair(inputs, replace(plan, steps=TIMED + 1))
    examples = pair.examples(pair.found.train)
    assert isinstance(examples, TeacherCache)
    examples.fill(pair.teach, partial(print, flush=True))
    pair.learn_norms(True)
    steps = Steps(pair, examples, 0, 1)
    steps.gradients(0)
    began = time.process_time()
    for step in range(1, TIMED + 1):
        steps.gradients(step)
    return max(1, round(seconds * TIMED / (time.process_time() - began)))


def distilled(inputs: Inputs, plan: Plan, seconds: float, file: Path) -> tuple[str, Pair]:
    """Steps of a recipe, and its student beside the teacher; a file that is there is taken as it is."""
    known = file.with_suffix(".steps")
    if not known.exists():
        known.write_text(str(affordable(inputs, plan, seconds)), encoding="utf-8")
    steps = known.read_text(encoding="utf-8")
    distil(inputs, replace(plan, steps=int(steps)), file, partial(print, flush=True))
    return steps, Pair(replace(inputs, student=f"{STUDENT}={file}"), plan)


def filled_boxes(library: Library, side: int) -> float:
    """Mean IoU of boxes taken as masks."""
    x, y, ious = torch.arange(side), torch.arange(side)[:, None], []
    for shot in (shot for shots in library.stills.values() for shot in shots):
        _, masks, boxes = largest_objects(shot, side)
        left, top, right, bottom = boxes.flatten(1)[..., None, None].unbind(1)
        inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
        ious.append(soft_iou(20.0 * inside - 10, masks))
    return torch.cat(ious).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", required=True, type=Path, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=20, help="of the CPU, for each recipe")
    parser.add_argument("--recipes", default="+".join(RECIPES), help="NAME[:OPTION=VALUE,...]+...")
    parser.add_argument("-o", "--out", required=True, type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    register_student()
    given.out.mkdir(parents=True, exist_ok=True)
    inputs = Inputs(STUDENT, "nano", given.objects / "open", cache=given.out / "cache", workers=0, named=True)
    pair, library = Pair(inputs, Plan()), Library.read([given.objects], side="validation")
    best = box_iou(pair.teacher, library)
    rows = [("teacher", "", best), ("box, filled", "", filled_boxes(library, pair.teacher.spec.input_wh[0]))]
    rows.append(("student before", "0", box_iou(pair.student.eval(), library)))
    for recipe in given.recipes.split("+"):
        file = given.out / f"{recipe}.safetensors"
        steps, pair = distilled(inputs, Plan(recipe, every=500), 60 * given.minutes, file)
        rows.append((recipe, steps, box_iou(pair.student.eval(), library)))
        table = ["| recipe | steps | box IoU | share of the teacher's |", "|---|---|---|---|"]
        table += [f"| {name} | {count} | {iou:.3f} | {100 * iou / best:.0f} % |" for name, count, iou in rows]
        (given.out / "table.md").write_text("\n".join(table) + "\n", encoding="utf-8")
        print("\n".join(table), flush=True)


if __name__ == "__main__":
    main()
