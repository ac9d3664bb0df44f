"""How the launcher reports the end of its workers."""

import signal
from pathlib import Path

import pytest

from latte_cli.core.errors import LatteError
from latte_cli.core.parallel.commands import Cluster
from latte_cli.core.parallel.watch import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A launch of two workers that were not started."""
    return Run(Cluster(2), tmp_path, collective=False)


@pytest.mark.parametrize("code", [None, 0, 129, 130, 143])
def test_running_finished_and_stopped_workers_are_not_failures(code: int | None, run: Run) -> None:
    run._check(run.workers[1], code)
    assert (run.stopped_since is not None) == (code in (129, 130, 143))


def test_the_error_of_a_run_is_the_reason_that_a_worker_reports(run: Run) -> None:
    worker = run.workers[1]
    worker.failure.write_text("x.mp4: damaged")
    with pytest.raises(LatteError) as caught:
        run._check(worker, 1)
    assert str(caught.value) == f"x.mp4: damaged (worker 1 of 2; its log: {worker.log})"
    assert worker.log.read_text() == "x.mp4: damaged\n"


def test_without_a_reported_reason_the_log_or_the_exit_code_is_shown(run: Run) -> None:
    worker = run.workers[0]
    with pytest.raises(LatteError, match=r"^worker 0 of 2 ended: exit code 3; its log: "):
        run._check(worker, 3)
    worker.log.write_text("Traceback (most recent call last):\n  ...\nValueError: out of luck\n")
    with pytest.raises(LatteError, match=r"^worker 0 of 2 ended: ValueError: out of luck; its log: "):
        run._check(worker, 3)


def test_a_killed_worker_is_a_failure_unless_the_run_was_asked_to_stop(run: Run) -> None:
    with pytest.raises(LatteError, match=r"^worker 0 of 2 was killed by SIGKILL; its log: "):
        run._check(run.workers[0], -signal.SIGKILL)
    run.ask(signal.SIGTERM)
    run._check(run.workers[0], -signal.SIGKILL)


def test_a_second_stop_request_kills_the_workers(run: Run) -> None:
    run.ask(signal.SIGINT)
    assert run.asked == signal.SIGINT
    run.ask(signal.SIGINT)
    assert run.asked == signal.SIGKILL


def test_the_exit_code_is_the_worst_of_the_workers(run: Run) -> None:
    assert run._finish([0, 0]) == 0
    assert run._finish([0, 143]) == 143
    assert run._finish([0, -signal.SIGKILL]) == 137
