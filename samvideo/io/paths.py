"""Paths made of names that come from outside: lists of data sets, annotation files, run.json."""

from pathlib import Path, PurePosixPath, PureWindowsPath

from samvideo.errors import SamVideoError


def inside(root: Path, name: object, described: str, error: type[SamVideoError]) -> Path:
    """Join a name from outside to `root`. Links below `root` are the user's own and are not looked at.

    Args:
        root: the folder that the path must lie in.
        name: a relative path such as `bear` or `masks/00000.png`.
        described: where the name comes from, for the message.
        error: raised if the name is not text, is empty or absolute, or holds `..`, a backslash or control
            characters.
    """
    if isinstance(name, str) and name.isprintable() and "\\" not in name:
        pure = PurePosixPath(name)
        if pure.parts and not pure.is_absolute() and ".." not in pure.parts and not PureWindowsPath(name).drive:
            return root / pure
    raise error(f"{described} is {str(name)[:80]!r}: a name or relative path below {root} expected")
