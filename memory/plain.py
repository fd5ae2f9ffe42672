"""SAM 2's memory: every token of every remembered frame, attended to as it is (Ravi et al. 2024)."""

from samvideo.memory.base import MemoryMethod, MethodConfig

KIND = "memory method"
VARIANTS = {"plain": MethodConfig()}


def build(config: MethodConfig) -> MemoryMethod:
    """A plain memory with untrained weights."""
    return MemoryMethod(config)
