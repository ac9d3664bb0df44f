"""Output: progress on stderr, plans and results on stdout. Text from users is never interpreted as markup."""

import io
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import IO, TYPE_CHECKING, NamedTuple, TextIO, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from latte_cli.core.errors import one_line, printable
from latte_cli.core.planning.plan import Plan
from latte_cli.core.planning.units import bytes_of, duration
from latte_cli.core.storage.hub import HubName

if TYPE_CHECKING:
    from latte_cli.core.data.latent_cache.check import Checked
    from latte_cli.core.recipes.cache import CacheReport
    from latte_cli.core.recipes.convert import ConvertReport
    from latte_cli.core.recipes.train import EncodeReport
    from latte_cli.core.sampling.write import SampleReport
    from latte_cli.core.training.report import TrainReport

SECONDS_BETWEEN_LINES = 10.0  # without a terminal
LONGEST_LIST = 12  # tensors listed by name


class _Stderr(io.TextIOBase):
    """The current stderr. Write errors are ignored: a run must not end because its terminal or log reader is
    gone."""

    def write(self, text: str) -> int:
        """Write, ignoring errors."""
        with suppress(OSError, ValueError):
            self._stream().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, ignoring errors."""
        with suppress(OSError, ValueError):
            self._stream().flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        with suppress(OSError, ValueError):
            return bool(self._stream().isatty())
        return False

    def fileno(self) -> int:
        """Its file descriptor. Raises OSError if it has none."""
        return int(self._stream().fileno())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Its encoding, which determines how bars are drawn."""
        return self._stream().encoding or "ascii"

    @staticmethod
    def _stream() -> TextIO:
        # While bars are drawn, sys.stderr is replaced by Rich's stream, which writes here.
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)


console = Console(file=cast("IO[str]", _Stderr()))

Report = TypeVar("Report")


class Line(NamedTuple):
    """The state of a loop: the activity, `done` of `total`, and additional text."""

    doing: str
    done: int
    total: int
    text: str = ""


class LogHandler(logging.Handler):
    """Log messages on stderr, above the progress bar if there is one. Repeated messages are shown once, since
    a plan and the work that follows report the same faults."""

    def __init__(self) -> None:
        super().__init__()
        self.printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        text = one_line(f"{record.levelname.lower()}: {record.getMessage()}")
        if text not in self.printed:
            self.printed.add(text)
            console.print(Text(text), soft_wrap=True)


def show_plan(settings: str, plan: Plan) -> None:
    """Print the resolved settings as YAML, if any, an empty line, and the plan."""
    show(settings and f"{settings}\n")
    for name, text in plan.rows:
        show(f"{name:<17}{one_line(text)}\n")


def show(text: str) -> None:
    """Print results to stdout."""
    sys.stdout.write(printable(text))
    sys.stdout.flush()


def show_fetching(name: HubName, size: int) -> None:
    """A file that is fetched now, on stderr."""
    console.print(Text(one_line(f"fetching {name} ({bytes_of(size)})")), soft_wrap=True)


def training_line(report: "EncodeReport | TrainReport") -> Line:
    """Loss and speed of a training step, or the progress of encoding."""
    from latte_cli.core.recipes.train import EncodeReport

    if isinstance(report, EncodeReport):
        return Line("encoding", report.done, report.total)
    validation = "" if report.validation_loss is None else f"validation {report.validation_loss:.4f}, "
    text = f"loss {report.losses.loss:.4f}, {validation}{report.frames_per_second:.1f} frames/s"
    return Line("training", report.step, report.steps, text)


def caching_line(report: "CacheReport") -> Line:
    """Progress of opening videos, then of encoding captions and frames."""
    from latte_cli.core.recipes.cache import CaptionsEncoded, VideosOpened

    if isinstance(report, VideosOpened):
        return Line("opening videos", report.done, report.total)
    if isinstance(report, CaptionsEncoded):
        return Line("encoding captions", report.done, report.total)
    text = f"{report.videos} of {report.total_videos} videos, {report.frames_per_second:.1f} frames/s"
    return Line("encoding", report.frames, report.total_frames, text)


def checking_line(checked: "Checked") -> Line:
    """Progress of checking cache entries."""
    return Line("checking", checked.done, checked.total)


def sampling_line(report: "SampleReport") -> Line:
    """Progress of encoding prompts, then of the steps of all clips."""
    clip, clips = report.clip + 1, len(report.plan)
    if report.step == 0:
        return Line("encoding prompts", clip, clips)
    return Line("sampling", report.done, sum(report.plan), f"clip {clip} of {clips}")


def show_conversion(report: "ConvertReport", *, done: bool) -> None:
    """Print a description of the weights and the result for each tensor."""
    from latte_cli.core.recipes.convert import describe

    rows = [("weights", report.weights), ("taken", str(len(report.taken)))]
    for title, names, arrow in (("renamed", report.renamed, " ->"), ("ignored", report.ignored, ":")):
        rows.append((title, str(len(names))))
        rows += [("", f"{name}{arrow} {text}") for name, text in list(names.items())[:LONGEST_LIST]]
        if len(names) > LONGEST_LIST:
            rows.append(("", f"and {len(names) - LONGEST_LIST} more: --report lists them all"))
    rows += [("merged", use) for use in report.lora]
    rows.append(("wrote" if done else "would write", report.target))
    if report.cost is not None:
        rows += [
            ("memory", f"about {bytes_of(report.cost.memory)}"),
            ("disk", f"about {bytes_of(report.cost.disk)}"),
            ("time", f"roughly {duration(report.cost.seconds)}"),
        ]
    lines = [describe(report), *(f"{title:<12}{text}" for title, text in rows)]
    show("".join(f"{one_line(line)}\n" for line in lines))


def follow(reports: Iterable[Report], line: Callable[[Report], Line]) -> Iterator[Report]:
    """Yield a loop's reports and show its progress.

    On a terminal, a bar with the remaining time; otherwise the first line of each activity, one every ten
    seconds, and the last.
    """
    with _Bars() if console.is_terminal else _Lines() as shown:
        for report in reports:
            shown.update(line(report))
            yield report


class _Bars:
    """A progress bar for each activity, redrawn in place."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
        )
        self.progress = Progress(*columns, console=console)
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "_Bars":
        """Start drawing."""
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing."""
        self.progress.stop()

    def update(self, line: Line) -> None:
        """Draw the current progress."""
        if line.doing not in self.tasks:
            self.tasks[line.doing] = self.progress.add_task(line.doing, text="")
        task = self.tasks[line.doing]
        self.progress.update(task, completed=line.done, total=line.total, text=line.text)


class _Lines:
    """Occasional progress lines, for a log."""

    def __init__(self) -> None:
        self.line: Line | None = None
        self.begun, self.first, self.written, self.seen = 0.0, 0, 0.0, 0.0
        self.is_written = True

    def __enter__(self) -> "_Lines":
        """Does nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write the last line."""
        self._finish()

    def update(self, line: Line) -> None:
        """Write the current progress, unless a line was written recently."""
        now = time.monotonic()
        if self.line is None or line.doing != self.line.doing:
            self._finish()
            self.begun, self.first, self.written = now, line.done, 0.0
        elif self.line.done == 0:  # loading and compiling, which say nothing of the time left
            self.begun, self.first = now, line.done
        self.line, self.seen, self.is_written = line, now, False
        if now - self.written >= SECONDS_BETWEEN_LINES:
            self.written = now
            self._write()

    def _finish(self) -> None:
        if not self.is_written:
            self._write()

    def _write(self) -> None:
        """One line: `training 250/1700, loss 0.3100, 120.5 frames/s, 0:03:20 left`."""
        assert self.line is not None
        doing, done, total, text = self.line
        parts = [f"{doing} {done}/{total}", *([text] if text else [])]
        if self.first < done < total:
            left = round((self.seen - self.begun) * (total - done) / (done - self.first))
            parts.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
        console.print(Text(", ".join(parts)), soft_wrap=True)
        self.is_written = True
