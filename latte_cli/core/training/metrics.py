"""The record of a run: metrics.jsonl, a line every so many steps."""

from pathlib import Path

from pydantic import ConfigDict, Field

from latte_cli.core.storage.journal import Journal
from latte_cli.core.storage.json_files import Model


class MetricsLine(Model):
    """A line: the step that ended it, and means over the steps since the line before."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=True)

    step: int = Field(ge=0)
    loss: float
    mse: float
    validation_loss: float | None = None


def metrics_journal(path: Path) -> Journal[MetricsLine]:
    """The lines of a metrics.jsonl."""
    return Journal(path, MetricsLine)


def cut_metrics(path: Path, step: int) -> None:
    """Drop the lines of steps that will be done again: those after the checkpoint."""
    if path.exists():
        journal = metrics_journal(path)
        journal.replace([line for line in journal.read(skip_damaged=True) if line.step <= step])
