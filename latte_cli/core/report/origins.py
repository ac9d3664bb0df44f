"""The origin of a run: commands.jsonl has one line per command that wrote into its folder."""

from pathlib import Path

from pydantic import ConfigDict

from latte_cli.core.storage.journal import Journal
from latte_cli.core.storage.json_files import Model

COMMANDS = "commands.jsonl"


class Origin(Model):
    """A command with its start time, machine and versions."""

    model_config = ConfigDict(extra="ignore")

    command: str
    begun: str
    machine: dict[str, str | int | float | None]


def note_command(run_dir: Path, origin: Origin) -> None:
    """Append a command to commands.jsonl. Raises LatteError if it cannot be written."""
    Journal(run_dir / COMMANDS, Origin).append([origin])


def origins(run_dir: Path) -> list[Origin]:
    """The commands of a run, in order."""
    return list(Journal(run_dir / COMMANDS, Origin).read(skip_damaged=True))
