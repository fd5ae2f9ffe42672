"""Distil a light image model from a trained one by several recipes, and print what share of its IoU each reaches.

    python demos/distil_table.py --teacher sam-vit-mini=mini.safetensors --images OBJECTS/open --minutes 20 -o OUT

OBJECTS/open: sets of still images with masks, `<set>/{images,masks}`. The masks are for measuring alone: mean IoU
of the answers to exact boxes, on the pictures that `samvideo.training.splits` keeps for validation. The student is
a ViT like sam-vit-mini with half of its blocks and two thirds of its width. `a+b` is recipe a for half of the time,
then b. The same command resumes; steps are counted off at the speed of the first call.
"""

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from samvideo.encoders import sam_vit
from samvideo.encoders.sam_vit import SamVitConfig
from samvideo.image_model import ImageModel
from samvideo.specs import IMAGE_SPECS
from samvideo.training.distil import Inputs, Pair, Plan, Steps, distil
from samvideo.training.image import box_iou
from samvideo.training.library import Library
from samvideo.training.teacher_cache import TeacherCache
from samvideo.weights.catalog import CATALOG

LIKE, STUDENT = "sam-vit-mini", "sam-vit-mini-half"
RECIPES = ("features", "prompts", "full", "sami", "layers", "sami+prompts", "layers+prompts")
TIMED = 10  # steps from which the number of all is taken, evenly over the course of a recipe


def register_student() -> None:
    """Make the student known by its name, in this process."""
    sam_vit.VARIANTS[STUDENT] = SamVitConfig(128, 2, 4, (3,), 512, window=8, side=16)
    IMAGE_SPECS[STUDENT] = replace(IMAGE_SPECS[LIKE], name=STUDENT, encoder=STUDENT)
    CATALOG[STUDENT] = replace(CATALOG[LIKE], name=STUDENT)


def affordable(inputs: Inputs, plan: Plan, seconds: float) -> int:
    """How many steps fit into a time."""
    pair = Pair(inputs, replace(plan, steps=TIMED + 1))
    examples = pair.examples(pair.find("train"))
    if isinstance(examples, TeacherCache):
        examples.fill(pair.teach, partial(print, flush=True))
    steps = Steps(pair, examples, 0, 1)
    steps.gradients(0)
    began = time.monotonic()
    for step in range(1, TIMED + 1):
        steps.gradients(step)
    return max(1, round(seconds * TIMED / (time.monotonic() - began)))


def distilled(recipe: str, inputs: Inputs, seconds: float, plan: Plan, out: Path) -> tuple[ImageModel, str]:
    """The student after all recipes of `a+b`, and their steps; a file that is there is taken as it is."""
    parts, counts = recipe.split("+"), []
    for number, part in enumerate(parts):
        file = out / f"{recipe}-{number}.safetensors"
        own = replace(plan, recipe=part)
        known = file.with_suffix(".steps")
        if not known.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            known.write_text(str(affordable(inputs, own, seconds / len(parts))), encoding="utf-8")
        counts.append(known.read_text(encoding="utf-8"))
        distil(inputs, replace(own, steps=int(counts[-1])), file, partial(print, flush=True))
        inputs = replace(inputs, student=f"{STUDENT}={file}")
    return Pair(inputs, plan).student.eval(), "+".join(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, metavar="MODEL=FILE")
    parser.add_argument("--images", required=True, type=Path, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=20, help="of training, for each recipe")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("-o", "--out", required=True, type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    register_student()
    inputs = Inputs(STUDENT, given.teacher, given.images, cache=given.out / "cache")
    plan = Plan(batch=given.batch, every=500)
    pair = Pair(inputs, plan)
    library = Library.read([given.images], side="validation")
    best = box_iou(pair.teacher, library)
    rows = [("teacher", "", best), ("student, heads of the teacher", "0", box_iou(pair.student.eval(), library))]
    for recipe in given.recipes.split(","):
        student, steps = distilled(recipe, inputs, 60 * given.minutes, plan, given.out)
        rows.append((recipe, steps, box_iou(student, library)))
        table = ["| recipe | steps | box IoU | share of the teacher's |", "|---|---|---|---|"]
        table += [f"| {name} | {count} | {iou:.3f} | {100 * iou / best:.0f} % |" for name, count, iou in rows]
        (given.out / "table.md").write_text("\n".join(table) + "\n", encoding="utf-8")
        print("\n".join(table), flush=True)


if __name__ == "__main__":
    main()
