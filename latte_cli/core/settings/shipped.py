"""The experiments that come with the program: configs/ of the repository, and of an installed package."""

import re
from importlib.resources import files
from typing import NamedTuple

from latte_cli.core.errors import LatteError

_FOLDER = files("latte_cli") / "configs"
_HEAD_LINES = 2  # of an experiment: its command, and its schema


class Shipped(NamedTuple):
    """An experiment file: its name without .yaml, its first sentence, and all of its text."""

    name: str
    summary: str
    text: str


def shipped() -> list[Shipped]:
    """Every experiment, by name."""
    names = sorted(file.name for file in _FOLDER.iterdir() if file.name.endswith(".yaml"))
    return [_read(name) for name in names]


def shipped_experiment(name: str) -> Shipped:
    """One experiment. Raises LatteError naming those that there are."""
    known = shipped()
    for experiment in known:
        if experiment.name == name.removesuffix(".yaml"):
            return experiment
    raise LatteError(f"found no experiment {name}, expected one of {', '.join(each.name for each in known)}")


def _read(name: str) -> Shipped:
    text = (_FOLDER / name).read_text("utf-8")
    words: list[str] = []
    for line in text.splitlines()[_HEAD_LINES:]:
        if not line.startswith("#"):
            break
        words += line.lstrip("# ").split()
    prose = " ".join(words)
    sentence = re.match(r".*?\.(?=\s[A-Z]|$)", prose)  # not at the "al." of a citation
    return Shipped(name.removesuffix(".yaml"), sentence[0] if sentence else prose, text)
