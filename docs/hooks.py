"""What the documentation site adds to its pages: the reference of commands, from the commands themselves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from samvideo.cli.main import EPILOG, app

ROOT = Path(__file__).parents[1]
TREE = ROOT / "build" / "docs"  # `paths` of mkdocstrings in mkdocs.yml
MAPPED = ("evaluation", "memory", "trackers")


def on_startup(**_: Any) -> None:
    """Lay out the package as it is installed, for mkdocstrings, which reads files and does not import them."""
    package = TREE / "samvideo"
    package.mkdir(parents=True, exist_ok=True)
    for old in package.iterdir():
        old.unlink()
    for path in [*(ROOT / "samvideo").iterdir(), *(ROOT / name for name in MAPPED)]:
        (package / path.name).symlink_to(path)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reference of commands."""
    files.append(File.generated(config, "cli.md", content=command_reference()))
    return files


def command_reference() -> str:
    """A page with the help of every command."""
    root = typer.main.get_command(app)
    parts = ["# Command line", "`samvideo COMMAND --help` prints the same.", EPILOG]
    for context in _commands(typer.Context(root, info_name="samvideo")):
        parts += _section(context)
    return "\n\n".join(parts) + "\n"


def _commands(context: typer.Context) -> Iterator[typer.Context]:
    """The contexts of all commands below a group, which come after it."""
    commands = getattr(context.command, "commands", {})
    if context.parent is not None:
        yield context
    for name, command in commands.items():
        yield from _commands(typer.Context(command, parent=context, info_name=name))


def _section(context: typer.Context) -> list[str]:
    command = context.command
    command.get_help(context)  # fills in the names of components
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [f"| `{_cell(names)}` | {_escaped(_cell(text))} |" for names, text in filter(None, records)]
    level = "##" if context.parent and context.parent.parent is None else "###"
    return [
        f"{level} {context.command_path}",
        _escaped(command.help or ""),
        f"```text\n{usage}\n```",
        "\n".join(["| argument or option | meaning |", "|---|---|", *rows]),
    ]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _escaped(text: str) -> str:
    """Text whose brackets and stars are not Markdown, but whose code is."""
    return text.replace("<", "&lt;").replace("[", "\\[").replace("*", "\\*")
