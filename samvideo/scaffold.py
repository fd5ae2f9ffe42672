"""Writes the package of a plug-in: a component in one module, its entry point, a README and tests that pass."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

from samvideo.errors import ConfigError, shown
from samvideo.evaluation.datasets import DATASETS
from samvideo.io.files import check_writable, writing
from samvideo.registry import ENCODERS, MEMORY_POLICIES, Registry
from samvideo.specs import BUNDLED, IMAGE_SPECS, SPECS

TEMPLATES = Path(__file__).parent / "plugin_templates"
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 40  # characters of a name


@dataclass(frozen=True)
class Kind:
    """What a plug-in may add.

    Attributes:
        registry: what there is already.
        reserved: names that mean something else where the component is named.
        use: a line of its README.
    """

    registry: Registry[Any]
    use: str
    reserved: Iterable[str] = ()


KINDS = {
    "encoder": Kind(
        ENCODERS, 'samvideo.build("$name", memory="plain")  # in Python', (*SPECS, *IMAGE_SPECS, *BUNDLED)
    ),
    "policy": Kind(MEMORY_POLICIES, "samvideo track video.mp4 --prompt box=220,110,470,400 --policy $name"),
    # of `samvideo finetune`, --data run=FOLDER means runs
    "dataset": Kind(DATASETS, "samvideo evaluate $name ROOT --model nano -o results", ("run",)),
}


def write_plugin(kind: str, name: str, folder: Path | None = None) -> Path:
    """Write a package that adds a component, and return its folder.

    Args:
        kind: one of `KINDS`.
        name: of the component; the package is called `samvideo-NAME`, its module `samvideo_NAME`.
        folder: where; new or empty. By default a folder with the name of the package, here.

    Raises:
        ConfigError: an unknown kind, a name that is malformed or taken, or a folder with files in it.
        OutputError: the folder cannot be written.
    """
    if kind not in KINDS:
        raise ConfigError(f"there is no kind of plug-in {shown(kind)}: {', '.join(KINDS)} expected")
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise ConfigError(
            f"{shown(name)} is not a valid component name: at most {LONGEST} lowercase letters, digits and "
            "single hyphens expected, a letter first, such as my-net"
        )
    if name in {*KINDS[kind].reserved, *KINDS[kind].registry.all()}:
        raise ConfigError(f"the name {name!r} is taken: choose another, such as my-{name}")
    folder = Path(f"samvideo-{name}") if folder is None else folder
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"{folder} exists: choose another folder with -o")
    check_writable(folder)
    module = f"samvideo_{name.replace('-', '_')}"
    values = {"name": name, "module": module, "kind": kind, "version": version("samvideo")}
    values |= {"group": KINDS[kind].registry.group or KINDS[kind].registry.package}
    values |= {"use": Template(KINDS[kind].use).substitute(values)}
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{module}.py": f"{kind}.py",
        f"tests/test_{module}.py": f"test_{kind}.py",
    }
    with writing(folder):
        (folder / "tests").mkdir(parents=True)
        for path, template in files.items():
            text = (TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
            (folder / path).write_text(Template(text).substitute(values), encoding="utf-8")
    return folder
