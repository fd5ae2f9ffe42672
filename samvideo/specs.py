"""What tells one model from another, and the published models; no torch."""

from dataclasses import dataclass, replace

from samvideo.memory.base import MemoryPolicy


@dataclass(frozen=True)
class ModelSpec:
    """Everything that defines a model; stored in every report.

    Attributes:
        name: what users call it; published checkpoints have the names of `SPECS`.
        encoder: variant of an encoder, see `encoders()`.
        memory: variant of a memory method, see `memory_methods()`; None for an image model.
        policy: variant of a memory policy, see `memory_policies()`, or a policy with options of its own.
        input_wh: size to which frames are resized, width and height in pixels.
        layers: of the memory attention.
        occlusion_embedding: whether the memory of frames without the object gets a learned code (SAM 2.1).
        pointer_time_encoding: whether object pointers carry a code of their age (SAM 2.1).
        mean, std: of the encoder's training images, RGB in [0, 1].
    """

    name: str
    encoder: str
    memory: str | None = "plain"
    policy: str | MemoryPolicy = "fifo"
    input_wh: tuple[int, int] = (1024, 1024)
    layers: int = 4
    occlusion_embedding: bool = False
    pointer_time_encoding: bool = False
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


def _specs() -> dict[str, ModelSpec]:
    small = (512, 512)
    sizes = ("tiny", "small", "base-plus", "large")
    specs = [
        ModelSpec(f"sam2.1-{s}", f"hiera-{s}", occlusion_embedding=True, pointer_time_encoding=True) for s in sizes
    ]
    specs += [ModelSpec(f"sam2-{s}", f"hiera-{s}") for s in sizes]
    for size in ("s", "ti"):
        name = f"efficienttam-{size}"
        specs.append(ModelSpec(name, f"vit-{size}"))
        specs.append(ModelSpec(f"{name}-1", f"vit-{size}", memory="pooled"))
        specs.append(ModelSpec(f"{name}-2", f"vit-{size}", memory="pooled-2"))
        specs.append(ModelSpec(f"{name}-512", f"vit-{size}", input_wh=small))
    specs.append(ModelSpec("edgetam", "repvit-m1", memory="perceiver", layers=2))
    surgical = ModelSpec("surgical-sam2-s", "hiera-small", policy="pruning")
    specs += [surgical, replace(surgical, name="surgical-sam2-s-512", input_wh=small)]
    return {spec.name: spec for spec in specs}


SPECS = _specs()
"""The published models by name."""
