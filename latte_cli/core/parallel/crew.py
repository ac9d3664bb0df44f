"""This machine's workers as processes: which there are, which have ended and how, and ending the rest."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from latte_cli.core.parallel.worker import lives

SECONDS_TO_DIE = 5.0  # after SIGKILL: a process may still be in the kernel, writing
SECONDS_FOR_EXIT_FILE = 2.0  # worker.py writes it a moment after the process is gone
KILLED = -int(signal.SIGKILL)


class Member:
    """One worker, or the scheduler, known by the files that worker.py writes."""

    def __init__(self, log_dir: Path, name: str):
        self.name = name
        self.log, self.pid_file, self.exit_file, self.failure = (
            log_dir / f"{name}{suffix}" for suffix in (".log", ".pid", ".exit", ".failure")
        )
        for file in (self.log, self.pid_file, self.exit_file, self.failure, log_dir / f"{name}.out"):
            file.unlink(missing_ok=True)  # an earlier run's
        self.pid: int | None = None
        self.parent: int | None = None  # worker.py, which waits for it
        self.gone_since: float | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs or has not begun."""
        if self.pid is None and self.pid_file.exists():
            self.pid, self.parent = map(int, self.pid_file.read_text().split())
        if self.exit_file.exists():
            return int(self.exit_file.read_text())
        if self.pid is None or lives(self.pid):
            return None
        self.gone_since = self.gone_since or time.monotonic()
        # No word of how it ended: worker.py was killed, and the worker with it.
        return KILLED if time.monotonic() - self.gone_since > SECONDS_FOR_EXIT_FILE else None

    def send(self, number: signal.Signals) -> None:
        """Signal the process and all that it started."""
        if self.poll() is None and self.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                if number == signal.SIGKILL:
                    os.killpg(self.pid, number)
                else:
                    os.kill(self.pid, number)


def end(members: list[Member]) -> None:
    """Kill those that still run, and wait until they are gone."""
    for member in members:
        member.send(signal.SIGKILL)
    processes = [pid for member in members for pid in (member.pid, member.parent) if pid is not None]
    wait_until(lambda: not any(map(lives, processes)), SECONDS_TO_DIE)


def wait_until(happened: Callable[[], bool], seconds: float) -> bool:
    """Look ten times a second until it happened, or the time is up."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
