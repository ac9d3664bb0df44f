"""This machine's worker processes: their status and exit codes, signalling and killing them."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from latte_cli.core.parallel.worker import lives

SECONDS_TO_DIE = 5.0  # after SIGKILL: a process may still be writing in the kernel
SECONDS_FOR_EXIT_FILE = 2.0  # worker.py writes it shortly after the process has ended
KILLED = -int(signal.SIGKILL)


class Member:
    """A worker or the scheduler, tracked through files written by worker.py."""

    def __init__(self, log_dir: Path, name: str):
        self.name = name
        self.log, self.pid_file, self.exit_file, self.failure = (
            log_dir / f"{name}{suffix}" for suffix in (".log", ".pid", ".exit", ".failure")
        )
        for file in (self.log, self.pid_file, self.exit_file, self.failure, log_dir / f"{name}.out"):
            file.unlink(missing_ok=True)  # of an earlier run
        self.pid: int | None = None
        self.parent: int | None = None  # the worker.py process that waits for it
        self.gone_since: float | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs or has not started."""
        if self.pid is None and self.pid_file.exists():
            self.pid, self.parent = map(int, self.pid_file.read_text().split())
        if self.exit_file.exists():
            return int(self.exit_file.read_text())
        if self.pid is None or lives(self.pid):
            return None
        self.gone_since = self.gone_since or time.monotonic()
        # No exit file: worker.py was killed, and the worker with it.
        return KILLED if time.monotonic() - self.gone_since > SECONDS_FOR_EXIT_FILE else None

    def send(self, number: signal.Signals) -> None:
        """Signal the process and its children."""
        if self.poll() is None and self.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                if number == signal.SIGKILL:
                    os.killpg(self.pid, number)
                else:
                    os.kill(self.pid, number)


def end(members: list[Member]) -> None:
    """Kill running members and wait until they have ended."""
    for member in members:
        member.send(signal.SIGKILL)
    processes = [pid for member in members for pid in (member.pid, member.parent) if pid is not None]
    wait_until(lambda: not any(map(lives, processes)), SECONDS_TO_DIE)


def wait_until(happened: Callable[[], bool], seconds: float) -> bool:
    """Poll a condition ten times per second until it is true or the time is up."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
