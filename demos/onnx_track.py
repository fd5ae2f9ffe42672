"""Track one object with an exported model: `python demos/onnx_track.py FOLDER VIDEO X1,Y1,X2,Y2 MASKS`.

Needs ONNX Runtime and NumPy, and OpenCV to read the video (or images: `frames/%05d.png`) and to write the masks.
FOLDER is what `samvideo export-model NAME -o FOLDER` wrote. All that a port to another language must do is here:
the pictures, the order of the graphs, the memory of earlier frames, and the choice among the masks. Every frame
takes three graphs: `encode`, then `prompt` on the first frame and `track` on the others, then `remember`.
"""

import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

FRAMES, POINTERS = 6, 15
"""So many of the last frames, and of their object pointers, are attended to beside those of the first frame."""
PROMPTED_ROW = 6
"""Row of the temporal code for the first frame; rows 0 to 5 are for the frames 1 to 6 before the current one."""
ABSENT_LOGIT = -1024.0


class Model:
    """The four graphs of an exported model, and what its manifest says of them."""

    def __init__(self, folder: Path) -> None:
        self.manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if self.manifest["policy"] != "fifo":
            raise SystemExit(f"this loop has the memory policy fifo, not {self.manifest['policy']}: export with it")
        with np.load(folder / self.manifest["constants"]["name"]) as file:
            self.constants = dict(file)
        self._sessions = {
            stage: onnxruntime.InferenceSession(folder / file["name"], providers=["CPUExecutionProvider"])
            for stage, file in self.manifest["graphs"].items()
        }

    def run(self, stage: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of a graph by name; it takes what it knows of the inputs."""
        session = self._sessions[stage]
        known = {x.name: inputs[x.name] for x in session.get_inputs()}
        return dict(zip((x.name for x in session.get_outputs()), session.run(None, known), strict=True))

    def batch(self, array: np.ndarray) -> np.ndarray:
        """The array of one object with an axis of objects: one, or as many as the graphs were exported for."""
        return np.repeat(array[None], self.manifest["objects"] or 1, 0)


class Memory:
    """Tokens and object pointer of the first frame, and of the last ones."""

    def __init__(self) -> None:
        self.count = 0
        self.frames: deque[np.ndarray] = deque(maxlen=FRAMES)
        self.pointers: deque[np.ndarray] = deque(maxlen=POINTERS)

    def add(self, tokens: np.ndarray, pointer: np.ndarray) -> None:
        """Remember the next frame."""
        if self.count == 0:
            self.first = tokens, pointer
        else:
            self.frames.append(tokens)
            self.pointers.append(pointer)
        self.count += 1

    def inputs(self, model: Model) -> dict[str, np.ndarray]:
        """The memory as inputs of the graph `track`: filled to its capacity with zeros that are not valid."""
        room, pointer_room = model.manifest["capacity"]
        tokens = np.stack([self.first[0], *self.frames])  # oldest first
        pointers = np.stack([self.first[1], *reversed(self.pointers)])  # newest first
        rows = [PROMPTED_ROW, *reversed(range(len(self.frames)))]
        ages = [self.count, *range(1, len(self.pointers) + 1)]  # in frames before the current one
        bank = {
            "tokens": filled(tokens, room),
            "code_rows": filled(np.array(rows, np.int64), room),
            "frame_scale": filled(np.ones(len(rows), np.float32), room),
            "frame_valid": filled(np.ones(len(rows), bool), room),
            "past_pointers": filled(pointers, pointer_room),
            "ages": filled(np.array(ages, np.float32) / POINTERS, pointer_room),
            "pointer_scale": filled(np.ones(len(ages), np.float32), pointer_room),
            "pointer_valid": filled(np.ones(len(ages), bool), pointer_room),
        }
        return {name: model.batch(array) for name, array in bank.items()}


def track(model: Model, frames: Iterable[np.ndarray], box: tuple[float, ...]) -> Iterator[np.ndarray]:
    """Yield the bool (H, W) mask, on each uint8 RGB (H, W, 3) frame, of what is in a box on the first one."""
    memory = Memory()
    for rgb in frames:
        height, width = rgb.shape[:2]
        features = model.run("encode", {"rgb": resized_picture(rgb, model.manifest["input_wh"])[None]})
        if memory.count == 0:
            found = model.run("prompt", features | box_prompt(model, box, (width, height)))
            mask, token = chosen(model, found, alternatives=False)
        else:
            found = model.run("track", features | memory.inputs(model))
            mask, token = chosen(model, found, alternatives=model.manifest["tracking"] == "alternatives")
        logits, pointer = found["logits"][0, mask], found["pointers"][0, token]
        presence = found["presence"][:1]
        if presence <= 0:
            logits, pointer = np.full_like(logits, ABSENT_LOGIT), model.constants["absent_pointer"]
        seen = {"logits": logits[None], "presence": presence[0], "binarise": np.array(memory.count == 0)}
        seen = {name: model.batch(array) for name, array in seen.items()}
        tokens = model.run("remember", {"coarse": features["coarse"]} | seen)["tokens"][0]
        memory.add(as_bfloat16(tokens), pointer)
        yield cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR) > 0


def box_prompt(model: Model, box: tuple[float, ...], size_wh: tuple[int, int]) -> dict[str, np.ndarray]:
    """Inputs of the graph `prompt`: two corners (labels 2 and 3) in pixels of the model's input, and no mask."""
    input_wh = model.manifest["input_wh"]
    corners = np.array(box, np.float32).reshape(1, 2, 2) * (np.array(input_wh) / size_wh).astype(np.float32)
    mask = np.zeros((1, 1, input_wh[1] // 4, input_wh[0] // 4), np.float32)
    return {"xy": corners, "labels": np.array([[2, 3]]), "mask": mask, "masked": np.zeros(1, np.float32)}


def chosen(model: Model, found: dict[str, np.ndarray], alternatives: bool) -> tuple[int, int]:
    """Which of four masks is taken, and which pointer: the first or, if it is unstable, the best of the others."""
    best = 1 + int(found["quality"][0, 1:].argmax())
    if alternatives:
        return best, best
    inner, outer = (np.count_nonzero(found["logits"][0, 0] > delta) for delta in (0.05, -0.05))
    stable = model.manifest["answer"] != "stable" or outer == 0 or inner / outer >= 0.98
    return (0 if stable else best), 0


def filled(array: np.ndarray, size: int) -> np.ndarray:
    """The array with zeros behind it, `size` rows in all."""
    return np.concatenate([array, np.zeros((size - len(array), *array.shape[1:]), array.dtype)])


def as_bfloat16(values: np.ndarray) -> np.ndarray:
    """Values rounded as PyTorch stores them: tokens of many objects take half the memory in bfloat16."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)


def resized_picture(rgb: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Bicubic, with a filter that widens where the picture shrinks, as in Pillow, and in PyTorch with antialias."""
    rows, columns = (bicubic(old, new) for old, new in zip(rgb.shape[:2], size_wh[::-1], strict=True))
    picture = np.tensordot(rows, rgb.astype(np.float32), 1)
    return (columns @ picture).round().clip(0, 255).astype(np.uint8)


def bicubic(old: int, new: int) -> np.ndarray:
    """(new, old) weights of the pixels of a row of `old` in one of `new`."""
    if old == new:
        return np.eye(new, dtype=np.float32)
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale - 0.5
    d = np.abs(np.arange(old) - centres[:, None]) / max(scale, 1.0)
    near, far = (1.5 * d - 2.5) * d * d + 1, ((2.5 - 0.5 * d) * d - 4) * d + 2
    weights = np.where(d < 1, near, np.where(d < 2, far, 0))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def read_video(path: str) -> Iterator[np.ndarray]:
    video = cv2.VideoCapture(path)
    while (read := video.read())[0]:
        yield cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)


def main(folder: str, video: str, box: str, out: str) -> None:
    Path(out).mkdir(exist_ok=True)
    corners = tuple(float(value) for value in box.split(","))
    for index, mask in enumerate(track(Model(Path(folder)), read_video(video), corners)):
        cv2.imwrite(f"{out}/{index:05d}.png", mask * np.uint8(255))


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
