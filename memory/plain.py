"""SAM 2's memory: the current frame attends to every token of every selected frame (Ravi et al. 2024)."""

from samvideo.memory.method import MemoryMethod, MethodConfig

KIND = "memory method"
VARIANTS = {"plain": MethodConfig()}


def build(config: MethodConfig) -> MemoryMethod:
    """A plain memory with untrained weights."""
    return MemoryMethod(config)
