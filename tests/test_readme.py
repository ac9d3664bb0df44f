"""Every command in the README is one that can be typed."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from latte_cli.cli import app as cli

ROOT = Path(__file__).parents[1]


def commands() -> list[str]:
    """The lines of the README's shell blocks that run latte or make, whole and without comments."""
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    plain = [line.removeprefix("$ ").partition(" #")[0].strip() for line in lines]
    return [line for line in plain if line.split(" ")[0] in ("latte", "make")]


def test_the_readme_shows_commands() -> None:
    assert commands()


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_readme_parses(line: str) -> None:
    program, *arguments = shlex.split(line)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert {argument for argument in arguments if "=" not in argument} <= set(targets)
        return
    group = typer.main.get_command(cli.app)
    if arguments and arguments[0].startswith("-"):
        assert arguments[0] in {option for parameter in group.params for option in parameter.opts} | {
            "--help"
        }
        return
    command = group.commands[arguments[0]]  # type: ignore[attr-defined]
    command.make_context(arguments[0], arguments[1:])


@pytest.mark.parametrize("line", commands())
def test_an_experiment_named_in_the_readme_is_shipped(line: str) -> None:
    for name in re.findall(r"configs/\w+\.yaml", line):
        assert (ROOT / name).is_file()
