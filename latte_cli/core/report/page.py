"""Write the page from the files of a run folder, with a template that escapes all values."""

import logging
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from latte_cli import __version__
from latte_cli.core.bench.machine import machine
from latte_cli.core.errors import LatteError, printable
from latte_cli.core.experiment.loading import load_settings
from latte_cli.core.report.clips import gallery
from latte_cli.core.report.curves import HEIGHT, WIDTH, charts
from latte_cli.core.report.figures import METRICS, evaluation
from latte_cli.core.report.origins import Origin, note_command, origins
from latte_cli.core.settings.schema import Settings
from latte_cli.core.settings.section import Section
from latte_cli.core.settings.yaml import scalar_yaml
from latte_cli.core.storage.files import write_file
from latte_cli.core.training.metrics import metrics_journal

log = logging.getLogger(__name__)

REPORT = "report.html"
TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Row:
    """A setting: its path, its value as in YAML, and whether it differs from the default."""

    path: str
    value: str
    is_changed: bool


class RunReport:
    """Keeps report.html of a run up to date; errors are logged as warnings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._origin: Origin | None = Origin(
            command=printable(shlex.join(["latte", *sys.argv[1:]])),
            begun=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            machine=machine(),
        )

    def follow(self, step: int) -> None:
        """Update the page in the step after a checkpoint or a preview."""
        train, before = self.settings.train, step - 1
        if any(
            every and before and before % every == 0
            for every in (train.checkpoint_every, train.preview_every)
        ):
            self.update()

    def update(self) -> None:
        """Write the page from the files of the run's folder; the first time, also record the command."""
        try:
            if self._origin is not None:
                note_command(self.settings.run_dir, self._origin)
                self._origin = None
            write_report(self.settings)
        except Exception as error:  # noqa: BLE001 (an error in the page must not end the run)
            reason = str(error) if isinstance(error, LatteError) else f"{type(error).__name__}: {error}"
            log.warning("no %s: %s", REPORT, reason)


def write_report(settings: Settings) -> Path:
    """Write report.html of a run from the files of its folder, atomically.

    settings: shown if the folder has no settings.yaml. Raises LatteError if it cannot be written.
    """
    from jinja2 import Environment, StrictUndefined

    run_dir = settings.run_dir
    target = run_dir / REPORT
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    lines = [line.model_dump() for line in metrics_journal(run_dir / "metrics.jsonl").read(skip_damaged=True)]
    settings = _settings_of(run_dir, settings)
    rows = list(setting_rows(settings, Settings()))
    page = environment.from_string(TEMPLATE.read_text("utf-8")).render(
        run_dir=str(run_dir),
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        steps=settings.train.steps,
        last=lines[-1] if lines else None,
        charts=charts(lines),
        chart_size=(WIDTH, HEIGHT),
        gallery=gallery(run_dir),
        evaluation=evaluation(run_dir),
        metrics=METRICS,
        rows=rows,
        changed=[row for row in rows if row.is_changed],
        origins=origins(run_dir),
    )
    write_file(target, page.encode("utf-8", "backslashreplace"))  # names that are not UTF-8
    return target


def setting_rows(section: Section, defaults: Section, prefix: str = "") -> Iterator[Row]:
    """Every setting, with sections flattened."""
    for name in type(section).model_fields:
        value, default = getattr(section, name), getattr(defaults, name)
        if isinstance(value, Section):
            yield from setting_rows(value, default, f"{prefix}{name}.")
        else:
            plain = section.model_dump(mode="json", include={name})[name]
            yield Row(prefix + name, scalar_yaml(plain), value != default)


def _settings_of(run_dir: Path, settings: Settings) -> Settings:
    """The settings of a run from its folder, if they can be read, else `settings`."""
    path = run_dir / "settings.yaml"
    if not path.exists():
        return settings
    try:
        return load_settings(path)
    except LatteError as error:
        log.warning("%s", error)
        return settings
