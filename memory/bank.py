"""The memory of one object: entries and the policy's state, bounded by the policy on every insertion."""

from collections.abc import Iterable

from samvideo.memory.base import Choice, History, MemoryEntry, MemoryPolicy
from samvideo.runtime import SelectedMemory


class MemoryBank:
    """Entries of one object in the order in which they came; entries themselves are never changed.

    Args:
        policy: decides what is kept.
        entries: to start from.
    """

    def __init__(self, policy: MemoryPolicy, entries: Iterable[MemoryEntry] = ()) -> None:
        self.policy = policy
        self.entries = list(entries)
        self.state = policy.initial_state()

    def history(self, index: int, size_wh: tuple[int, int] | None = None) -> History:
        """All that is known when frame `index`, of `size_wh` pixels, is processed."""
        return History(index, tuple(self.entries), self.state, size_wh)

    def recall(self, index: int) -> SelectedMemory:
        """What to attend to on frame `index`."""
        return self.policy.recall(self.history(index))

    def insert(self, entry: MemoryEntry) -> None:
        """Add an entry; it replaces one of the same frame. What the policy does not keep is freed."""
        self.entries = [e for e in self.entries if e.index != entry.index] + [entry]
        self.entries = self.policy.keep(self.history(entry.index))

    def drop_near(self, index: int, radius: int) -> None:
        """Free the un-prompted entries within `radius` frames of a corrected frame: they show the mistake."""
        self.entries = [e for e in self.entries if e.prompted or abs(e.index - index) > radius]

    def branch(self, choice: Choice) -> "MemoryBank":
        """A bank with the same entries and the state of a choice, independent of this one."""
        bank = MemoryBank(self.policy, self.entries)
        bank.state = choice.state
        return bank
