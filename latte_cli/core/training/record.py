"""The files of a run other than checkpoints and previews."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from latte_cli.core.errors import LatteError
from latte_cli.core.experiment.loading import dump_settings
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.files import clear_partials, write_file
from latte_cli.core.training.events import EventLog
from latte_cli.core.training.metrics import MetricsLine, cut_metrics, metrics_journal
from latte_cli.core.training.tracking import Tracker

log = logging.getLogger(__name__)


class RunRecord:
    """settings.yaml, metrics.jsonl, tensorboard/ and the loss curve of a run that continues from `step`; and
    what its tracker gets.

    Nothing is written before the first step is done, so a run that fails earlier leaves no files.
    """

    def __init__(self, settings: Settings, *, step: int):
        self.settings, self.start = settings, step
        self.metrics = settings.run_dir / "metrics.jsonl"
        self._events: EventLog | None = None
        self._tracker: Tracker | None = None

    def add(self, line: Mapping[str, float] | None) -> None:
        """Record a finished step, with its line of metrics, if any."""
        if self._events is None or self._tracker is None:
            self._events = self._begin()
            self._tracker = Tracker(self.settings, resumed=self.start > 0)
        if line is not None:
            metrics_journal(self.metrics).append([MetricsLine.model_validate(line)])
            self._events.add(line)
            self._tracker.add(line)

    def show(self, step: int, files: Sequence[Path]) -> None:
        """Record the previews of a step."""
        if self._tracker is not None:
            self._tracker.show(step, files)

    def close(self) -> None:
        """End the run at its tracker, if it has one."""
        if self._tracker is not None:
            self._tracker.close()

    def draw(self) -> None:
        """Plot the loss curve; errors are logged and do not end the run."""
        from latte_cli.core.training.charts import loss_curve

        if not self.metrics.exists():
            return
        try:
            loss_curve(self.metrics, self.metrics.with_name("loss.png"))
        except (LatteError, ImportError) as error:
            log.warning("no loss curve: %s", error)

    def _begin(self) -> EventLog:
        """Write the settings, and clean up after a killed run."""
        folder = self.settings.run_dir
        write_file(folder / "settings.yaml", dump_settings(self.settings))
        cut_metrics(self.metrics, self.start)
        clear_partials(folder)
        clear_partials(folder / "ckpt")
        clear_partials(folder / "samples", "step-*")
        return EventLog(folder / "tensorboard", next_step=self.start + 1)
