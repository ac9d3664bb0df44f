"""metrics.jsonl: one line per train.log_every steps."""

from pathlib import Path

from pydantic import ConfigDict, Field

from latte_cli.core.storage.journal import Journal
from latte_cli.core.storage.json_files import Model


class MetricsLine(Model):
    """A line: its last step, and means over the steps since the previous line."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=True)

    step: int = Field(ge=0)
    loss: float
    mse: float
    validation_loss: float | None = None


def metrics_journal(path: Path) -> Journal[MetricsLine]:
    """The journal of a metrics.jsonl."""
    return Journal(path, MetricsLine)


def cut_metrics(path: Path, step: int) -> None:
    """Remove the lines of steps after the checkpoint, which will be repeated."""
    if path.exists():
        journal = metrics_journal(path)
        journal.replace([line for line in journal.read(skip_damaged=True) if line.step <= step])
