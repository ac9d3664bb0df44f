"""Help pages fit 80 columns, group options by purpose, and end with examples that can be typed."""

import re
import shlex
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from latte_cli.cli import app as cli
from latte_cli.cli.help import GROUPS

COMMANDS: dict[str, Any] = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


def page(command: str) -> str:
    return (
        CliRunner(env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).invoke(cli.app, [command, "--help"]).stdout
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_page_fits_80_columns(command: str) -> None:
    assert [line for line in page(command).splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_appears_once_under_a_known_heading(command: str) -> None:
    text = page(command)
    headings = re.findall(r"^(\w+):$", text.partition("\nExamples:")[0], re.M)
    assert headings == [heading for heading in GROUPS if heading in headings]
    assert headings[-1] == "Experiment"
    flags = re.findall(r"^  (?:-\w, )?(--[a-z0-9-]+)", text.partition("\nExamples:")[0], re.M)
    options = list(COMMANDS[command].get_params(typer.Context(COMMANDS[command])))
    named = [parameter.opts[-1] for parameter in options if parameter.param_type_name == "option"]
    assert sorted(flags) == sorted(named)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_a_help_page_parse(command: str) -> None:
    lines = page(command).partition("\nExamples:\n")[2].strip().splitlines()
    shown = [line.strip() for line in lines if not line.strip().startswith("#")]
    assert shown
    for line in shown:
        program, name, *arguments = shlex.split(line.partition(" > ")[0])
        assert (program, name) == ("latte", command)
        COMMANDS[command].make_context(name, arguments)


def test_command_list_shows_full_summaries() -> None:
    shown = CliRunner(env={"COLUMNS": "80"}).invoke(cli.app, ["--help"]).stdout
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.help.splitlines()[0])}$", shown, re.M)
