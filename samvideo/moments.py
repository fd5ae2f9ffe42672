"""Moments of a video as people write them: frame numbers, seconds, clock times."""

import re

from samvideo.errors import ConfigError, SamVideoError

MOMENT_HELP = "a frame number, or a time: 12.5s, 1:02.5"
LAST_FRAME = 2**53  # greater numbers are not exact in JSON, nor as floats
_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)s?", re.ASCII)


def parse_moment(text: str | None, error: type[SamVideoError] = ConfigError) -> int | float | None:
    """Parse a frame index (`120`, an int) or a time (`12.5s`, `12.5`, `1:02`, `1:02:03.5`; seconds, a float).

    `error` is raised for anything else, for minutes or seconds from 60 on after a colon, and above 2^53.
    """
    if text is None:
        return None
    match = _CLOCK.fullmatch(text[:40])
    if match is None or len(text) > 40:
        raise error(f"cannot read the moment {text[:40]!r}: expected {MOMENT_HELP}")
    hours, minutes, seconds = match.groups()
    if (minutes and float(seconds) >= 60) or (hours and int(minutes) >= 60):
        raise error(f"cannot read the moment {text!r}: minutes and seconds after a colon are below 60")
    moment = int(text) if text.isdecimal() else int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)
    if moment > LAST_FRAME:
        raise error(f"the moment {text!r} is after the end of any video: expected {MOMENT_HELP}")
    return moment
