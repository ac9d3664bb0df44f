"""A command planned: its settings with local weights, its plan, and what would be fetched for it."""

from dataclasses import dataclass

from latte_cli.core.checkpoints.published import Hub
from latte_cli.core.planning.plan import Plan
from latte_cli.core.planning.units import bytes_of
from latte_cli.core.settings.schema import Settings


@dataclass(frozen=True)
class Planned:
    """What a command would do, and the settings for it."""

    settings: Settings | None
    """None where a file says it all."""
    plan: Plan


def absent_rows(hub: Hub) -> list[tuple[str, str]]:
    """A row on each name whose weights would be fetched, and on how much that is."""
    rows = []
    for absent in hub.absent:
        files = "1 file" if absent.files == 1 else f"{absent.files} files"
        size = absent.reason or f"{files}, {bytes_of(absent.size)}"
        rows.append(("would fetch", f"{absent.name}: {size}"))
    return rows
