"""How `samvideo track` finds objects: what `--prompt everything` and `--prompt text=...` ask for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from samvideo.errors import ConfigError

EVERYTHING = "everything"
TEXT = "text="
MOST = 30
"""Objects that are tracked at a time unless another number is given."""


@dataclass(frozen=True)
class SearchSettings:
    """A search for objects, on the first frame and then again and again.

    Attributes:
        prompter: name of the automatic prompter.
        texts: what it looks for, of the prompter `text`.
        every: seconds between two searches.
        most: objects that are tracked at most at a time.
    """

    prompter: str
    texts: tuple[str, ...] | None = None
    every: float = 1.0
    most: int = MOST

    def record(self) -> dict[str, Any]:
        """What `run.json` says of it."""
        return {"prompter": self.prompter, "every": self.every, "max_objects": self.most}


def split_searches(prompts: Sequence[str]) -> tuple[bool, tuple[str, ...] | None, list[str]]:
    """Split prompts into searches and others.

    Returns:
        Whether there is a search, its texts if they are given, and the other prompts.

    Raises:
        ConfigError: more than one search, or one without texts.
    """
    searches = [prompt for prompt in prompts if prompt == EVERYTHING or prompt.startswith(TEXT)]
    others = [prompt for prompt in prompts if prompt not in searches]
    if len(searches) > 1:
        raise ConfigError(
            f"there are {len(searches)} searches, {' and '.join(map(repr, searches))}: one expected; several "
            "texts are separated by semicolons, as in --prompt 'text=person; ball'"
        )
    if not searches or searches[0] == EVERYTHING:
        return bool(searches), None, others
    texts = tuple(part.strip() for part in searches[0].removeprefix(TEXT).split(";") if part.strip())
    if not texts:
        raise ConfigError(f"{searches[0]!r} names nothing: --prompt 'text=person; ball', for instance, expected")
    return True, texts, others
