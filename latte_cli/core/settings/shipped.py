"""The shipped experiment files, in configs/ of the repository and of the installed package."""

import re
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from latte_cli.core.errors import LatteError

_FOLDER = files("latte_cli") / "configs"
SCHEMA = "latte.schema.json"
_HEAD_LINES = 2  # the lines before the description: the command and the schema


class Shipped(NamedTuple):
    """An experiment file: name without .yaml, first sentence of its description, full text."""

    name: str
    summary: str
    text: str


def shipped() -> list[Shipped]:
    """All experiments, sorted by name."""
    return [_read(f"{name}.yaml") for name in shipped_names()]


def shipped_names() -> list[str]:
    """The names of all experiments, sorted."""
    files = (file.name for file in _FOLDER.iterdir())
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def shipped_experiment(name: str) -> Shipped:
    """One experiment. Raises LatteError listing the available ones if there is none of this name."""
    known = shipped()
    for experiment in known:
        if experiment.name == name.removesuffix(".yaml"):
            return experiment
    raise LatteError(f"unknown experiment {name}; expected one of {', '.join(each.name for each in known)}")


def copy_of(name: str) -> str:
    """The text of an experiment for a copy anywhere: its schema is named by its full path.

    Raises LatteError as `shipped_experiment`.
    """
    text, schema = shipped_experiment(name).text, Path(str(_FOLDER / SCHEMA))
    named = schema.resolve().as_uri() if schema.is_file() else SCHEMA  # no file in a zipped package
    return text.replace(f"$schema={SCHEMA}", f"$schema={named}", 1)


def _read(name: str) -> Shipped:
    text = (_FOLDER / name).read_text("utf-8")
    words: list[str] = []
    for line in text.splitlines()[_HEAD_LINES:]:
        if not line.startswith("#"):
            break
        words += line.lstrip("# ").split()
    prose = " ".join(words)
    sentence = re.match(r".*?\.(?=\s[A-Z]|$)", prose)  # skips the "al." of a citation
    return Shipped(name.removesuffix(".yaml"), sentence[0] if sentence else prose, text)
