"""A file of prompts: one per line, optionally followed by options for this prompt."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latte_cli.core.data.captions.files import LONGEST
from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import LARGEST_SEED, Settings

OPTIONS: dict[str, Callable[[str], Any]] = {"seed": int, "steps": int, "guidance-scale": float}
LONGEST_SLUG = 40  # characters of the prompt in file names
LEAST = {"seed": 0, "steps": 1, "guidance-scale": 0.0}
MOST = {"seed": LARGEST_SEED, "steps": sys.maxsize, "guidance-scale": sys.float_info.max}


@dataclass(frozen=True)
class PromptLine:
    """A prompt and the options on its line."""

    text: str
    seed: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None


def prompts_of(settings: Settings) -> list[PromptLine]:
    """The prompts of a run, sample.prompts; empty if the model has no text condition."""
    if settings.model.condition != "text":
        return []
    return [PromptLine(text) for text in settings.sample.prompts]


def read_prompts(path: Path) -> list[PromptLine]:
    """Read the prompts of a file. Empty lines and lines starting with # are ignored.

    A line may end with `--seed N`, `--steps N` and `--guidance-scale X`; a line of options only is an empty
    prompt. Raises LatteError naming the invalid line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise LatteError(f"--prompts-file: {path}: cannot be read: {reason}") from error
    prompts = [
        parse_prompt(line, source=f"--prompts-file: {path}: line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not prompts:
        raise LatteError(f"--prompts-file: {path}: contains no prompts")
    return prompts


def parse_prompt(line: str, *, source: str) -> PromptLine:
    """Parse a line into prompt and options. Raises LatteError naming `source`."""
    if len(line) > LONGEST:
        raise LatteError(f"{source}: found {len(line):,} characters, expected at most {LONGEST:,}")
    text, *rest = re.split(r"(?:^|(?<=\s))--(?=[a-z])", line.strip())
    given: dict[str, Any] = {}
    for option in rest:
        name, _, value = re.sub(r"[=\s]+", " ", option.strip(), count=1).partition(" ")
        if name not in OPTIONS:
            known = ", ".join(f"--{known}" for known in OPTIONS)
            raise LatteError(f"{source}: found --{name}, expected {known} or none")
        try:
            number = OPTIONS[name](value)
        except ValueError:
            number = None
        if number is None or not LEAST[name] <= number <= MOST[name]:
            kind = "an integer" if OPTIONS[name] is int else "a number"
            most = f", at most {LARGEST_SEED}" if name == "seed" else ""
            expected = f"{kind} of at least {LEAST[name]}{most}"
            raise LatteError(f"{source}: --{name}: found {value!r}, expected {expected}")
        given[name.replace("-", "_")] = number
    return PromptLine(text.strip(), **given)


def named(place: int, seed: int, text: str) -> str:
    """The file name of a prompt's clip, the one at `place`."""
    return "-".join(filter(None, (f"{place:03d}-seed{seed}", slug(text))))


def slug(text: str) -> str:
    """The beginning of a prompt for use in a file name: its words in lower case, joined by dashes."""
    words = re.findall(r"\w+", text.lower())
    kept = ""
    for word in words:
        longer = f"{kept}-{word}" if kept else word[:LONGEST_SLUG]
        if len(longer) > LONGEST_SLUG:
            break
        kept = longer
    return kept
