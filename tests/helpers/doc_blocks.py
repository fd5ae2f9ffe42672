"""The fenced blocks of the documentation, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL, PYTHON, NOT_CODE = ("", "sh", "bash"), "python", "text"
FENCE = re.compile(r"^```(?P<language>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str  # from the root
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def statements(self) -> Iterator[list[str]]:
        """The words of each simple command of a shell block; loops and assignments are left out."""
        for line in self.text.replace("\\\n", " ").splitlines():
            line = re.sub(r"(^|\s)#.*", "", line)  # within a word, as in `box=1,2,3,4#1`, it starts no comment
            words = shlex.shlex(line, posix=True, punctuation_chars=";&|")
            words.whitespace_split, words.commenters = True, ""
            statement: list[str] = []
            for word in [*words, ";"]:
                if word.strip(";&|"):
                    statement.append(word)
                elif statement:
                    yield from _command(statement)
                    statement = []


def _command(words: list[str]) -> Iterator[list[str]]:
    if words[0] == "do":
        words = words[1:]
    if words and words[0] not in ("for", "done") and not re.match(r"\w+=", words[0]):
        yield words


def inline_commands(page: Path) -> list[list[str]]:
    """The words of `samvideo …` in running text, which may be abridged."""
    text = FENCE.sub("", page.read_text())
    return [found.split() for found in re.findall(r"`(samvideo [^`]+)`", text)]


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text()
    name = page.relative_to(ROOT).as_posix()
    return [
        Block(name, text[: found.start()].count("\n") + 1, found["language"], found["text"])
        for found in FENCE.finditer(text)
    ]
