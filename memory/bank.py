"""The memory of one object: entries, bounded by a policy on every insertion."""

from samvideo.memory.base import MemoryEntry, MemoryPolicy


class MemoryBank:
    """Entries of one object in the order in which they came; entries themselves are never changed.

    Args:
        policy: decides what is kept.
    """

    def __init__(self, policy: MemoryPolicy, entries: tuple[MemoryEntry, ...] = ()) -> None:
        self.policy = policy
        self.entries = list(entries)

    def insert(self, entry: MemoryEntry) -> None:
        """Take in an entry; it replaces one of the same frame. What the policy does not keep is freed."""
        self.entries = self.policy.keep([e for e in self.entries if e.index != entry.index] + [entry])

    def drop_near(self, index: int, radius: int) -> None:
        """Free the un-prompted entries within `radius` frames of a corrected frame: they show what was wrong."""
        self.entries = [e for e in self.entries if e.prompted or abs(e.index - index) > radius]

    def copy(self) -> "MemoryBank":
        """A bank with the same entries that goes its own way; shares the tensors."""
        return MemoryBank(self.policy, tuple(self.entries))
