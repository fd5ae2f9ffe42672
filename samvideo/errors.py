"""The exceptions of samvideo. A message states the value, the expectation, and the remedy."""

from typing import Any, ClassVar


class SamVideoError(Exception):
    """Base class of all of them; `exit_code` is the exit code of the command line."""

    exit_code: ClassVar[int] = 5


class VideoError(SamVideoError):
    """A video source cannot be opened, read or sought. The source is closed, or can be closed safely."""

    exit_code = 3


class PromptError(SamVideoError):
    """A prompt is malformed or outside its frame. The tracker's state has not changed."""

    exit_code = 2


class ConfigError(SamVideoError):
    """An option has an unknown value, or two options contradict each other. Nothing was started."""

    exit_code = 2


class WeightsError(SamVideoError):
    """Weights cannot be found, fetched, verified or matched to a model. Nothing is partly loaded."""

    exit_code = 4


class DatasetError(SamVideoError):
    """A dataset's folder does not have the published layout, or one of its files is broken."""

    exit_code = 3


class OutputError(SamVideoError):
    """A result cannot be written. What was written before is complete and readable."""

    exit_code = 5


def shown(value: Any) -> str:
    """A value from outside for a message: its first 60 characters."""
    try:
        return repr(value)[:60]
    except (ValueError, RecursionError):  # Python does not print integers of thousands of digits
        return "a value that is too long to print"
