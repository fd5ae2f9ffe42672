"""Training of the fusion network, on clips that the tracker recorded."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo.nano.network import LOGITS, MOTION, VALID, Fusion
from samvideo.training.collecting import STEP, RecordedClip
from samvideo.training.fitting import Log, TrainingStage, mask_loss, train

FLOW_X = MOTION.start + 1
Memories = list[tuple[Tensor, Tensor]]
VISIBLE = 30  # pixels of a crop that make an object count as in view


def batch(recorded: list[RecordedClip], size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Memories]:
    """Sample planes (B, EVIDENCE, S, S), truth (B, 1, S, S) and two memories (crops and beliefs) each."""
    planes, truth, looks, beliefs = [], [], [], []
    lengths = np.array([len(clip.planes) for clip in recorded], float)
    for k in rng.choice(len(recorded), size, p=lengths / lengths.sum()):
        clip = recorded[k]
        t = int(rng.integers(len(clip.planes)))
        planes.append(clip.planes[t])
        truth.append(clip.truth[t])
        memory = clip.memory[t] if rng.random() < 0.9 else clip.memory[t][[0, 0]]
        looks.append(clip.looks[memory])
        beliefs.append(clip.beliefs[memory])
    crops = torch.from_numpy(np.stack(looks)).float() / STEP
    shown = torch.from_numpy(np.stack(beliefs)).float() / 255
    memories = [(crops[:, k], shown[:, k, None]) for k in range(2)]
    x = torch.from_numpy(np.stack(planes)).float() / STEP
    return x, torch.from_numpy(np.stack(truth)).float()[:, None] / 255, memories


def augment(
    planes: Tensor, truth: Tensor, memories: Memories, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Memories]:
    """Rotate, scale, mirror and recolour crops; shift the previous mask; weaken single cues."""
    count = len(planes)
    if rng.random() < 0.6:
        turn = torch.from_numpy(rng.normal(0, 0.2, count))
        scale = torch.from_numpy(np.exp(rng.normal(0, 0.12, count)))
        move = torch.from_numpy(rng.normal(0, 0.06, (count, 2)))
        rows = [torch.stack([turn.cos() * scale, -turn.sin() * scale, move[:, 0]], 1)]
        rows.append(torch.stack([turn.sin() * scale, turn.cos() * scale, move[:, 1]], 1))
        grid = F.affine_grid(torch.stack(rows, 1).float(), [count, 1, *planes.shape[2:]], align_corners=False)
        moved = F.grid_sample(torch.cat([planes, truth], 1), grid, align_corners=False)
        planes, truth = moved[:, :-1], (moved[:, -1:] > 0.5).float()
    mirrored = torch.from_numpy(rng.random(count) < 0.5)[:, None, None, None]
    planes, truth = torch.where(mirrored, planes.flip(3), planes), torch.where(mirrored, truth.flip(3), truth)
    planes = planes.clone()
    planes[:, FLOW_X] *= torch.where(mirrored[:, 0], -1.0, 1.0)
    colours = _colours(count, rng)
    planes[:, :3] = colours(planes[:, :3], planes[:, VALID, None])
    memories = [(torch.cat([colours(c[:, :3], c[:, 3:]), c[:, 3:]], 1), belief) for c, belief in memories]
    for k in range(count):
        if rng.random() < 0.25:
            shift = tuple(int(s) for s in rng.integers(-6, 7, 2))
            planes[k, LOGITS.start] = planes[k, LOGITS.start].roll(shift, (0, 1))
        if rng.random() < 0.15:
            planes[k, int(rng.integers(LOGITS.start, LOGITS.stop))] *= float(rng.random())
    return planes, truth, memories


def _colours(count: int, rng: np.random.Generator) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a random change of hue and contrast of Lab planes (B, 3, S, S); invalid pixels (B, 1, S, S) stay 0."""
    gain = torch.from_numpy(np.exp(rng.normal(0, 0.1, (count, 3)))).float()[:, :, None, None]
    offset = torch.from_numpy(rng.normal(0, 0.08, (count, 3))).float()[:, :, None, None]
    turn = torch.from_numpy(rng.uniform(0, 2 * np.pi, count) * (rng.random(count) < 0.5)).float()
    cosine, sine = turn.cos()[:, None, None], turn.sin()[:, None, None]

    def change(lab: Tensor, valid: Tensor) -> Tensor:
        light, a, b = lab.unbind(1)
        turned = torch.stack([light, a * cosine - b * sine, a * sine + b * cosine], 1)
        return (turned * gain + offset) * valid

    return change


def fit(network: Fusion, recorded: list[RecordedClip], stage: TrainingStage, log: Log) -> None:
    """Train a network in place; see `samvideo.training.fitting.train`."""
    device = next(network.parameters()).device

    def draw(step: int) -> tuple[Tensor, Tensor, Memories]:
        rng = np.random.default_rng((stage.seed, step))
        return augment(*batch(recorded, stage.batch, rng), rng)

    def loss_of(drawn: tuple[Tensor, Tensor, Memories]) -> Tensor:
        planes, truth, memories = drawn
        planes, truth = planes.to(device, memory_format=torch.channels_last), truth.to(device)
        memories = [(crops.to(device), belief.to(device)) for crops, belief in memories]
        with torch.autocast(device.type, torch.bfloat16):
            logits, judged = network(planes, remember(network, memories))
        present = (truth.sum((1, 2, 3)) > VISIBLE).float()
        return mask_loss(logits[:, 0].float(), truth[:, 0], planes[:, VALID], judged.float(), present)

    train(network, stage, draw, loss_of, log)


def remember(network: Fusion, memories: Memories) -> list[Tensor]:
    """Encode both memories of a batch, from crops (B, 4, S, S) and beliefs (B, 1, S, S)."""
    crops = torch.cat([c for c, _ in memories])
    keys = F.normalize(network.keys(crops.contiguous(memory_format=torch.channels_last)), dim=1)
    tokens = network.remember(keys, torch.cat([b for _, b in memories]), crops[:, 3:])
    return list(tokens.chunk(2))
