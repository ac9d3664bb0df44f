"""All tests of a device, in other processes, so that one that crashes or hangs is a row like the others."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from signal import Signals
from typing import Any

from latte_cli.core.doctor import installation
from latte_cli.core.doctor.self_test import runs, speed
from latte_cli.core.doctor.self_test.rows import Row
from latte_cli.core.errors import LatteError

WORKER = "latte_cli.core.doctor.self_test.worker"
SECONDS = 180.0  # of a single test, which compiles a small graph
POLL = 0.05


def self_test(requested: str) -> tuple[str, Iterator[Row]]:
    """The device in use (cpu, ascend, gpu), and the rows of all tests as they are done.

    requested: also auto. Where MindSpore does not compute there is a single row, which says why.
    """
    found = installation.compute(requested)
    if found.fault:
        text = f"MindSpore does not compute on {requested}: {found.fault}"
        return requested, iter([Row("device", "failed", text)])
    return found.device, _all_rows(found.device)


def _all_rows(device: str) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="latte-self-test-") as name:
        folder = Path(name)
        yield from computed(device, folder)
        yield from runs.run_all(device, folder)
        yield speed.measure(device, folder)


def computed(
    device: str,
    folder: Path,
    *,
    names: Sequence[str] | None = None,
    module: str = WORKER,
    seconds: float = SECONDS,
) -> Iterator[Row]:
    """The rows of the tests of a worker, which is started again after a test that ended it.

    names: default all. module: what to run as worker. seconds: time limit of each test. Raises LatteError if
    the worker does not start.
    """
    left = list(names) if names is not None else _all_names()
    attempt = 0
    while left:
        attempt += 1
        worker = _Worker(device, folder / f"rows-{attempt}.jsonl", left, module)
        for row in worker.rows(seconds):
            left.remove(row.name)
            yield row


class _Worker:
    """A worker's process and what it writes."""

    def __init__(self, device: str, target: Path, names: Sequence[str], module: str):
        self.target, self.log = target, target.with_suffix(".log")
        command = [sys.executable, "-m", module, device, str(target), *names]
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file)
        self._read = 0

    def rows(self, seconds: float) -> Iterator[Row]:
        """Rows as they are written, and one for the test at which the process ends or hangs, if any."""
        current: str | None = None
        since = time.monotonic()
        try:
            while True:
                ended = self.process.poll() is not None
                for line in self._new_lines():
                    since = time.monotonic()
                    if "begins" in line:
                        current = line["begins"]
                    else:
                        current = None
                        yield Row(**line)
                if current is not None and time.monotonic() - since > seconds:
                    yield Row(current, "failed", f"no result within {seconds:g} s", seconds)
                    return
                if ended:
                    break
                time.sleep(POLL)
        finally:
            self.process.kill()
            self.process.wait()
        if current is not None:
            yield Row(current, "failed", f"the process {self._reason()}", round(time.monotonic() - since, 2))
        elif self._read == 0:
            raise LatteError(f"--self-test: the process {self._reason()}")

    def _new_lines(self) -> list[dict[str, Any]]:
        if not self.target.exists():
            return []
        lines = self.target.read_text().split("\n")[:-1]  # the last one may not be complete
        new, self._read = lines[self._read :], len(lines)
        return [json.loads(line) for line in new]

    def _reason(self) -> str:
        code = self.process.returncode
        if code < 0:
            return f"was ended by {Signals(-code).name}"
        lines = [line.strip() for line in self.log.read_text("utf-8", "replace").splitlines() if line.strip()]
        return f"ended with code {code}: {lines[-1] if lines else 'no message'}"


def _all_names() -> list[str]:
    from latte_cli.core.doctor.self_test.worker import all_names

    return all_names()
