"""Progress, on a terminal and in a log."""

import errno
import logging
import sys
from collections.abc import Iterator
from io import StringIO

import pytest
from rich.console import Console

from latte_cli.cli import progress as display
from latte_cli.cli.progress import Line, LogHandler, follow, sampling_line, show_conversion, show_plan
from latte_cli.core.planning.plan import Plan
from latte_cli.core.recipes.convert import ConvertReport
from latte_cli.core.sampling.write import SampleReport


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that progress reads."""
    clock = Clock()
    monkeypatch.setattr(display, "time", clock)
    return clock


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """The output without a terminal."""
    text = StringIO()
    monkeypatch.setattr(display, "console", Console(file=text, width=40))
    return text


def steps(clock: Clock, total: int, seconds: float) -> Iterator[int]:
    """A loop whose steps each take this long."""
    for step in range(1, total + 1):
        yield step
        clock.now += seconds


def test_a_log_has_the_first_and_last_line_and_one_every_ten_seconds(clock: Clock, log: StringIO) -> None:
    reports = follow(steps(clock, 9, 4.0), lambda step: Line("training", step, 9, f"loss {step}"))
    assert list(reports) == list(range(1, 10))
    assert log.getvalue().splitlines() == [
        "training 1/9, loss 1",
        "training 4/9, loss 4, 0:00:20 left",
        "training 7/9, loss 7, 0:00:08 left",
        "training 9/9, loss 9",
    ]


def test_a_log_has_the_first_and_last_line_of_each_activity(clock: Clock, log: StringIO) -> None:
    def line(step: int) -> Line:
        return Line("encoding", step, 3) if step <= 3 else Line("training", step - 3, 2)

    assert len(list(follow(steps(clock, 5, 1.0), line))) == 5
    expected = ["encoding 1/3", "encoding 3/3", "training 1/2", "training 2/2"]
    assert log.getvalue().splitlines() == expected


def test_the_time_left_does_not_count_loading_before_the_first_step(clock: Clock, log: StringIO) -> None:
    def loading() -> Iterator[int]:
        yield 0
        clock.now += 1000.0
        yield from steps(clock, 4, 6.0)

    assert len(list(follow(loading(), lambda step: Line("measuring", step, 4)))) == 5
    expected = ["measuring 0/4", "measuring 1/4", "measuring 3/4, 0:00:06 left", "measuring 4/4"]
    assert log.getvalue().splitlines() == expected


def test_the_log_of_a_failed_loop_ends_with_its_last_progress(clock: Clock, log: StringIO) -> None:
    def failing() -> Iterator[int]:
        yield from steps(clock, 2, 1.0)
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        list(follow(failing(), lambda step: Line("training", step, 9)))
    assert log.getvalue().splitlines() == ["training 1/9", "training 2/9, 0:00:07 left"]


def test_a_terminal_shows_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = StringIO()
    terminal = Console(file=text, width=100, force_terminal=True, color_system=None)
    monkeypatch.setattr(display, "console", terminal)
    list(follow([1, 2], lambda step: Line("training", step, 2, "loss [b]0.5")))
    assert "2/2" in text.getvalue()
    assert "loss [b]0.5" in text.getvalue()


def test_log_lines_are_not_markup_and_cannot_control_the_terminal(log: StringIO) -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "left out: %s", ("[red]\x1b[2J.mp4",), None)
    LogHandler().emit(record)
    assert log.getvalue() == "warning: left out: [red]\\x1b[2J.mp4\n"


def test_a_plan_prints_the_settings_and_one_line_per_entry(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan("seed: 1\n", Plan([("model", "tiny"), ("steps per epoch", "3")]))
    assert capsys.readouterr().out == "seed: 1\n\nmodel            tiny\nsteps per epoch  3\n"


def test_a_conversion_names_the_adapters_that_were_merged(capsys: pytest.CaptureFixture[str]) -> None:
    report = ConvertReport(
        kind="t2v", weights="bare", preset=None, parameters=1, taken=["a"], renamed={}, ignored={},
        source_sha256=None, source="models/tiny", target="styled", lora=["style:0.8", "motion:0.5"],
    )  # fmt: skip
    show_conversion(report, done=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == ["merged      style:0.8", "merged      motion:0.5", "wrote       styled"]


def test_progress_of_sampling_counts_the_steps_of_all_clips() -> None:
    plan = (2, 5, 3)
    read = [sampling_line(SampleReport(clip, 0, plan)) for clip in range(3)]
    assert read == [Line("encoding prompts", clip, 3) for clip in (1, 2, 3)]
    drawn = [
        sampling_line(SampleReport(clip, step, plan))
        for clip, number in enumerate(plan)
        for step in range(1, number + 1)
    ]
    assert [line.done for line in drawn] == list(range(1, 11))
    assert {(line.doing, line.total) for line in drawn} == {("sampling", 10)}
    assert drawn[6].text == "clip 2 of 3"


def test_a_repeated_warning_is_printed_once(log: StringIO) -> None:
    handler = LogHandler()
    for text in ("a.mp4: is empty", "b.mp4: is empty", "a.mp4: is empty"):
        handler.emit(logging.LogRecord("x", logging.WARNING, "", 0, text, (), None))
    assert log.getvalue().splitlines() == ["warning: a.mp4: is empty", "warning: b.mp4: is empty"]


class Gone(StringIO):
    """A terminal that has closed."""

    def write(self, text: str) -> int:
        """Fail, as the system does."""
        raise OSError(errno.EIO, "Input/output error")


def test_a_loop_continues_when_stderr_is_closed(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Gone())
    reports = follow(steps(clock, 3, 20.0), lambda step: Line("training", step, 3))
    assert list(reports) == [1, 2, 3]
