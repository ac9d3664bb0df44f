"""Every command in the README and in docs/ is one that can be typed."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from latte_cli.cli import app as cli

ROOT = Path(__file__).parents[1]


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[str]:
    """The lines of the pages' shell blocks that run latte or make, complete, without comments, each once."""
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"```(?:bash|sh|console)\n(.*?)```", page.read_text("utf-8"), re.S)
    ]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    plain = [line.removeprefix("$ ").partition(" #")[0].strip() for line in lines]
    return list(dict.fromkeys(line for line in plain if line.split(" ")[0] in ("latte", "make")))


def test_the_documentation_shows_commands() -> None:
    assert commands()


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_documentation_parses(line: str) -> None:
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
def test_an_experiment_named_in_the_documentation_is_shipped(line: str) -> None:
    for name in re.findall(r"configs/\w+\.yaml", line):
        assert (ROOT / name).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_of_the_documentation_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert [page.name for page in PAGES[2:] if page.name not in navigation] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 180
