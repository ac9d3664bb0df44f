"""The documentation as data: its pages, their fenced blocks, and the commands and outputs in them."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
SHELL = ("bash", "console")


class Block(NamedTuple):
    """A fenced block: its page, the language after the fence, and the text."""

    page: Path
    language: str
    text: str

    def __str__(self) -> str:
        """Page and first line, as the name of a test."""
        return f"{self.page.name}: {self.text.strip().splitlines()[0][:60]}"


class Shown(NamedTuple):
    """A command of a console block and the output below it."""

    page: Path
    command: str
    output: list[str]

    def __str__(self) -> str:
        """Page and command, as the name of a test."""
        return f"{self.page.name}: {self.command}"


@cache
def blocks(*languages: str) -> list[Block]:
    """All fenced blocks, or those of some languages."""
    found = [
        Block(page, match[1], match[2])
        for page in PAGES
        for match in re.finditer(r"^ *```(\S*)\n(.*?)^ *```$", page.read_text("utf-8"), re.S | re.M)
    ]
    return [block for block in found if not languages or block.language in languages]


def shell_lines() -> Iterator[str]:
    """The commands of all shell blocks, complete, without comments."""
    for block in blocks(*SHELL):
        for line in block.text.replace("\\\n", " ").splitlines():
            if block.language == "bash" or line.startswith("$ "):
                command = line.removeprefix("$ ").partition(" #")[0].strip()
                yield from (part.strip() for part in command.split("&&") if part.strip())


def commands(*programs: str) -> list[str]:
    """The lines that run these programs, each once."""
    return list(dict.fromkeys(line for line in shell_lines() if line.split(" ")[0] in programs))


@cache
def inline() -> list[tuple[Path, str]]:
    """The text between single backticks outside fenced blocks, with its page."""
    found = []
    for page in PAGES:
        prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.S | re.M)
        found += [(page, code) for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose)]
    return found


@cache
def console() -> list[Shown]:
    """Every command of the console blocks with its output."""
    found = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
            command, *output = part.rstrip("\n").split("\n")
            found.append(Shown(block.page, command, output))
    return found


def settings_of(arguments: list[str]) -> list[str]:
    """The KEY=VALUE of every --set among a command's arguments."""
    return [value for flag, value in pairwise(arguments) if flag == "--set"]


def words(line: str) -> list[str]:
    """A command's words without a redirection by `>`."""
    return shlex.split(line.partition(" > ")[0])
