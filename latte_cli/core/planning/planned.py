"""The plan of a command, its settings with local weights, and what would be fetched."""

from dataclasses import dataclass

from latte_cli.core.checkpoints.published import Hub
from latte_cli.core.planning.plan import Plan
from latte_cli.core.planning.units import bytes_of
from latte_cli.core.settings.schema import Settings


@dataclass(frozen=True)
class Planned:
    """The plan of a command, and the settings for it."""

    settings: Settings | None
    """None if a replayed file has all of them."""
    plan: Plan


def absent_rows(hub: Hub) -> list[tuple[str, str]]:
    """A row for each name whose weights would be fetched, with their size."""
    rows = []
    for absent in hub.absent:
        files = "1 file" if absent.files == 1 else f"{absent.files} files"
        size = absent.reason or f"{files}, {bytes_of(absent.size)}"
        rows.append(("would fetch", f"{absent.name}: {size}"))
    return rows
