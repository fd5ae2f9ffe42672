"""Long-term memory of frames that stand for several; after XMem (Cheng and Schwing 2022).

As in XMem (section 3.3), frames that leave the working memory are compressed: prototypes y are selected among
them, and each gets, in place of its own value, the mean of all candidates' values x, weighted by their similarity
to it:

    v = sum_i softmax_i(s cos(y, x_i)) x_i

Counterpart: hkchengrex/XMem: inference/memory_manager.py, consolidation. There prototypes are single tokens, the
most used ones, and tokens have no place. Here they are frames, those that `DiversePolicy` selects, and the mean
is taken over the tokens of one place (one latent of a Perceiver) of all frames of the pool, since SAM 2's
attention adds position codes to its tokens. What was compressed once is not compressed again, as there; when
memory is full the most redundant goes, not the least used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from samvideo.memory.base import MemoryEntry, PolicyFacts
from samvideo.memory.diverse import DiversePolicy

KIND = "memory policy"
FACTS = PolicyFacts(
    "the same as diverse, each of the three the weighted mean of several frames",
    "after XMem, Cheng and Schwing 2022",
    "as fifo",
)


@dataclass(frozen=True)
class ConsolidatedPolicy(DiversePolicy):
    """Diverse frames, each merged with its pool; for memory methods whose tokens have a place in the frame.

    Attributes:
        reliable_quality: lower than of `DiversePolicy`, since a merged frame depends less on a single mask.
        sharpness: factor s on the cosine in the weights, at 0 a plain mean.
    """

    reliable_quality: float = 0.5
    sharpness: float = 10.0

    @property
    def merges_tokens(self) -> bool:
        """See `MemoryPolicy`."""
        return True

    def merge(self, chosen: MemoryEntry, pool: Sequence[MemoryEntry]) -> MemoryEntry:
        """See `DiversePolicy.merge`: the weighted mean of the pool."""
        return replace(chosen, tokens=chosen.tokens.potentiate([entry.tokens for entry in pool], self.sharpness))


VARIANTS = {"consolidated": ConsolidatedPolicy()}


def build(config: ConsolidatedPolicy) -> ConsolidatedPolicy:
    """The policy is its own config."""
    return config
