"""Commands, settings, flags, links and YAML blocks of the README, CONTRIBUTING.md and docs/ are valid."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from latte_cli.cli import app as cli
from latte_cli.core.experiment.loading import parse_override
from latte_cli.core.settings.messages import known_keys
from latte_cli.core.settings.schema import Settings
from tests.pages import DOCS, PAGES, ROOT, SHELL, Block, blocks, commands, console, inline, settings_of, words
from tools.generated_pages import DOCS as FOLDER
from tools.generated_pages import PARTS, page

INPUTS = (  # text that readers write, and drawings; output is in console blocks, below its command
    "# video or folder, then its label",
    "# one prompt per line",
    "hf://OWNER/REPO",
    "cli                             flags",
    "latents/\n",
    "datasets/\n",
    "video,caption\n",
)
OTHER_PROGRAMS = ("pip", "python", "tar", "ls", "source", "cd", "export", "git", "apt-get", "msrun", "mpirun")
FOREIGN_PAGES = ("migrating.md",)  # its flags and settings are partly those of other programs
SECTIONS = "|".join(name for name in known_keys() if "." not in name)


@cache
def group() -> Any:
    return typer.main.get_command(cli.app)


@cache
def flags() -> set[str]:
    """Every flag of every command, and of the scripts in tests/."""
    parameters = [each for command in (group(), *group().commands.values()) for each in command.params]
    scripts = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py")]
    theirs = {flag for text in scripts for flag in re.findall(r'add_argument\(\s*"(--[a-z-]+)"', text)}
    return {"--help", *theirs, *(name for each in parameters for name in (*each.opts, *each.secondary_opts))}


def check(line: str) -> None:
    """Parse a latte command; its settings exist and take these values."""
    _, *arguments = words(line)
    if not arguments or arguments[0].startswith("-"):
        assert set(arguments) <= flags()
        return
    command = group().commands[arguments[0]]
    command.make_context(arguments[0], arguments[1:], resilient_parsing=False)
    if line in {shown.command for shown in console()}:
        return  # an invalid one can be shown, whose output is compared
    for assignment in settings_of(arguments):
        path, value = parse_override(assignment)
        section, _, key = path.rpartition(".")
        Settings.model_validate({section: {key: value}} if section else {key: value})


def test_the_documentation_shows_commands() -> None:
    assert len(commands("latte")) > 50


@pytest.mark.parametrize("line", commands("latte"))
def test_a_command_of_the_documentation_parses(line: str) -> None:
    check(line)


@pytest.mark.parametrize(
    "line", sorted({code for _, code in inline() if re.fullmatch(r"latte [a-z]+( .*)?", code)})
)
def test_a_command_within_a_sentence_parses(line: str) -> None:
    if not re.search(r"\b[A-Z]{3,}\b|\.\.\.$", line.partition("--set")[0]):  # latte COMMAND, --data PATH
        try:
            check(line)
        except Exception as error:  # typer's own, which has no public name
            if type(error).__name__ not in ("MissingParameter", "BadOptionUsage"):  # `latte sample --prompt`
                raise


@pytest.mark.parametrize("line", commands("make"))
def test_every_make_target_in_the_documentation_exists(line: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert {argument for argument in words(line)[1:] if "=" not in argument} <= set(targets)


@pytest.mark.parametrize("line", commands("python", ".venv/bin/python"))
def test_a_script_of_the_documentation_exists(line: str) -> None:
    _, *arguments = words(line)
    if arguments[0] == "-m" and arguments[1].split(".")[0] in ("tests", "tools", "latte_cli"):
        assert (ROOT / arguments[1].replace(".", "/")).with_suffix(".py").is_file()
    elif arguments[0].endswith(".py"):
        assert (ROOT / arguments[0]).is_file()


@pytest.mark.parametrize("block", blocks(*SHELL), ids=str)
def test_a_shell_block_runs_known_programs(block: Block) -> None:
    for line in block.text.replace("\\\n", " ").splitlines():
        if block.language == "bash" and line.strip() and not line.startswith("#"):
            assert re.sub(r"^([A-Z_]+=\S+ )*", "", line).split()[0].removeprefix(".venv/bin/") in (
                "latte",
                "make",
                *OTHER_PROGRAMS,
            )


def test_a_block_is_a_command_an_experiment_or_a_known_input() -> None:
    assert {block.language for block in blocks()} <= {*SHELL, "yaml", "text"}
    unknown = [str(block) for block in blocks("text") if not block.text.startswith(INPUTS)]
    assert unknown == [], "put the output of a command into a console block, below the command"


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_a_yaml_block_is_part_of_an_experiment(block: Block) -> None:
    Settings.model_validate(yaml.safe_load(block.text))


@pytest.mark.parametrize("name", PAGES, ids=lambda path: path.name)
def test_a_setting_named_in_the_documentation_exists(name: Path) -> None:
    known = set(known_keys())
    for where, code in inline():
        match = re.match(rf"((?:{SECTIONS})\.[a-z_0-9]+)(?:: (.+))?$", code)
        if (
            where == name
            and match
            and not code.endswith((".yaml", ".json", ".py", ".md", ".jsonl", ".cc", ".log"))
        ):
            assert match[1] in known, code
            if match[2] and "..." not in match[2] and "," not in match[2]:
                section, _, key = match[1].rpartition(".")
                Settings.model_validate({section: {key: yaml.safe_load(match[2])}})


@pytest.mark.parametrize(
    "name", [page for page in PAGES if page.name not in FOREIGN_PAGES], ids=lambda path: path.name
)
def test_a_flag_named_in_the_documentation_exists(name: Path) -> None:
    named = {
        re.split("[ =:]", code)[0] for where, code in inline() if where == name and code.startswith("--")
    }
    assert named <= flags()


@pytest.mark.parametrize("line", commands("latte"))
def test_an_experiment_named_in_the_documentation_is_shipped(line: str) -> None:
    for name in re.findall(r"configs/\w+\.yaml", line):
        assert (ROOT / name).is_file()


@pytest.mark.parametrize("name", PAGES, ids=lambda page: page.name)
def test_a_link_of_the_documentation_leads_to_a_file(name: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", name.read_text("utf-8")):
        assert (name.parent / target).exists(), target


@pytest.mark.parametrize("name", PAGES, ids=lambda page: page.name)
def test_a_link_to_a_heading_leads_to_one(name: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", name.read_text("utf-8")):
        text = (name.parent / target if target else name).read_text("utf-8")
        headings = re.findall(r"^#+ (.+)$", text, re.M)
        slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings]
        assert anchor in slugs, f"{target}#{anchor}"


def test_a_path_on_the_architecture_page_exists() -> None:
    paths = [
        code for page, code in inline() if page.name == "architecture.md" and re.fullmatch(r"[\w/.]+", code)
    ]
    folders = (ROOT, ROOT / "latte_cli", ROOT / "latte_cli" / "core")
    missing = [
        path
        for path in paths
        if "/" in path
        and not any((folder / name).exists() for folder in folders for name in (path, f"{path}.py"))
    ]
    assert len(paths) > 80
    assert missing == []


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert [page.name for page in DOCS if page.name not in navigation] == []


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [page.name for page in DOCS if f"docs/{page.name}" not in readme and page.name != "index.md"] == []


def error_texts() -> list[str]:
    """The errors quoted in the first column of the tables of the troubleshooting page."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    return [
        text for row in re.findall(r"^\| (`.+?) \| ", page, re.M) for text in re.findall("`([^`]+)`", row)
    ]


@cache
def source() -> str:
    """The package's source, with adjacent string literals joined and without the fields of f-strings."""
    text = "\n".join(path.read_text("utf-8") for path in (ROOT / "latte_cli").rglob("*.py"))
    joined = re.sub(r"""["']\s*\n\s*f?["']""", "", text)
    return re.sub(r"%[sd]|\{[^{}\n]*\}", "...", joined)


@pytest.mark.parametrize("quoted", error_texts())
def test_every_error_on_the_troubleshooting_page_is_a_message_of_the_program(quoted: str) -> None:
    if quoted == "Killed":  # the system's
        return
    parts = [part.strip(" :;,") for part in quoted.split("...")]
    assert [part for part in parts if part not in source() and part not in known_keys()] == []


@pytest.mark.parametrize("name", PARTS)
def test_a_generated_part_is_current(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == page(name), "run python -m tools.generated_pages"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 180
