"""What made a run: a line of commands.jsonl for each command that wrote into its folder."""

from pathlib import Path

from pydantic import ConfigDict

from latte_cli.core.storage.journal import Journal
from latte_cli.core.storage.json_files import Model

COMMANDS = "commands.jsonl"


class Origin(Model):
    """A command, when it began, and the machine and versions it ran with."""

    model_config = ConfigDict(extra="ignore")

    command: str
    begun: str
    machine: dict[str, str | int | float | None]


def note_command(run_dir: Path, origin: Origin) -> None:
    """Add a command to those of a run. Raises LatteError when it cannot be written."""
    Journal(run_dir / COMMANDS, Origin).append([origin])


def origins(run_dir: Path) -> list[Origin]:
    """The commands that a run was made by, in order."""
    return list(Journal(run_dir / COMMANDS, Origin).read(skip_damaged=True))
