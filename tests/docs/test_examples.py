"""Every example of the documentation: run where that takes seconds, and otherwise parsed by the real commands."""

import re
import shlex
from importlib.metadata import metadata
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from doc_blocks import NOT_CODE, PAGES, PYTHON, ROOT, SHELL, Block, blocks, inline_commands
from typer.main import get_command
from typer.testing import CliRunner

from samvideo.cli.main import app

BLOCKS = [block for page in PAGES for block in blocks(page)]
# Examples that are not run here, and why; commands among them are parsed.
NOT_RUN = {
    r"^samvideo bench": "measures for minutes",
    r"^samvideo (train|finetune|distill|quantize|prune|search) ": "trains for minutes to hours",
    r"(my_|runs/)?\w*(mine|mini|slim|edge-video|prompter)(/model)?\.safetensors": "reads what the training gave",
    r"edgetam|sam2\.1|efficienttam|sam-vit-b|nano-int8": "needs a checkpoint, or minutes to export a model",
    r"ENCODER,PROMPT_ENCODER": "needs a checkpoint",
    r"text=|--detector": "downloads a detector",
    r"--prompt box( |$)|samvideo ui": "opens the page and waits for its user",
    r"^samvideo track (0|rtsp:\S+|-) ": "needs a camera, a stream or a pipe",
    r"DATA/|CHOLECSEG8K|VIDEOS|\$|runs/(mask|stills|unsupervised|folder)": "needs the data of the measurements",
    r"images COCO": "needs COCO",
    r"case21\.mp4|runs/before": "needs annotated clips, and the trained model",
    r"annotate\(|page\.wait": "needs a notebook",
    r"--policy my-policy": "needs the plug-in installed",
    r"^samvideo serve|client\.put": "serves until it is stopped, or needs the server",
    r"--workers|--ray": "starts processes, as tests/cli/test_bulk.py does",
    r"^samvideo weights verify": "there is nothing in the cache",
}
# What is made shorter to run.
SHORTER = {
    "demo-clip demo.mp4": "demo-clip demo.mp4 --frames 3",
    "video.mp4 --prompt everything": "video.mp4 --prompt everything --end 2",
    "PICTURES --prompt everything": "PICTURES --prompt everything --proposals 2",
    "DAVIS --prompt everything": "DAVIS --prompt everything --proposals 2",
}
# Commands of other programs, which must be there only for a reader.
OTHERS = ("curl", "cvat-cli", "docker", "export", "ffmpeg", "pytest", "python3", "sed", "source", "ssh")


def why_not(text: str) -> str | None:
    return next((reason for pattern, reason in NOT_RUN.items() if re.search(pattern, text)), None)


def commands_to_run(block: Block) -> list[list[str]]:
    """The statements of a shell block that are run here, without the program's name."""
    if block.language not in SHELL:
        return []
    return [words[1:] for words in block.statements() if words[0] == "samvideo" and not why_not(" ".join(words))]


def code_to_run(block: Block) -> str | None:
    """The text of a Python block that is run here."""
    return block.text if block.language == PYTHON and not why_not(block.text) else None


def test_every_block_has_a_known_language() -> None:
    assert not [f"{b.place}: {b.language}" for b in BLOCKS if b.language not in (*SHELL, PYTHON, NOT_CODE)]


def test_no_row_of_the_table_is_stale() -> None:
    texts = [shlex.join(words).replace("'", "") for b in BLOCKS if b.language in SHELL for words in b.statements()]
    texts += [block.text for block in BLOCKS if block.language == PYTHON]
    for pattern in NOT_RUN:
        assert any(re.search(pattern, text) for text in texts), f"{pattern}: no example is like this"


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in SHELL], ids=lambda block: block.place)
def test_commands_are_known(block: Block) -> None:
    for words in block.statements():
        check_statement(words)


def check_statement(words: list[str]) -> None:
    program, *arguments = words
    if program == "samvideo":
        parse(arguments)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(arguments) <= set(targets), f"no such target of make: {arguments}"
    elif program == "pip":
        extras = metadata("samvideo").get_all("Provides-Extra") or []
        assert set(re.findall(r"\[(\w+)\]", " ".join(arguments))) <= set(extras), f"no such extra: {arguments}"
    elif program == "python":
        assert (ROOT / arguments[0]).is_file(), f"no such script: {arguments[0]}"
    else:
        assert program in OTHERS, f"unknown program: {shlex.join(words)}"


def parse(arguments: list[str]) -> Any:
    """The context of a command whose arguments are parsed, but which is not run; a usage error is raised."""
    command: Any = get_command(app)
    context, name = None, "samvideo"
    while True:
        context = command.make_context(name, list(arguments), parent=context)
        if not hasattr(command, "commands"):
            return context
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_running_text_exist(page: Path) -> None:
    for words in inline_commands(page):
        command: Any = get_command(app)
        for word in words[1:]:
            if word in getattr(command, "commands", {}):
                command = command.commands[word]
            elif re.fullmatch(r"--[a-z-]+", word):
                known = [option for parameter in command.params for option in (*parameter.opts, "--help")]
                assert word in known, f"{page.name}: {' '.join(words)}: {command.name} has no option {word}"
            else:
                assert not hasattr(command, "commands") or re.search(r"[^a-z-]", word), f"no verb {word}: {words}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from doc_world import make_world

    return make_world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("page", sorted({b.page for b in BLOCKS if commands_to_run(b) or code_to_run(b)}))
def test_examples_run(page: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a page one after the other, in one folder; what one Python block defines, the next ones know."""
    import torch

    copytree(world, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # there, the default model is a download
    names: dict[str, Any] = {}
    for block in (b for b in BLOCKS if b.page == page):
        if code := code_to_run(block):
            exec(compile("\n" * block.line + code, str(ROOT / block.page), "exec"), names)
        for arguments in commands_to_run(block):
            text = shlex.join(arguments)
            for long, short in SHORTER.items():
                text = text.replace(long, short)
            done = CliRunner().invoke(app, shlex.split(text))
            assert done.exit_code == 0, f"{block.place}: samvideo {text}\n{done.output}"
