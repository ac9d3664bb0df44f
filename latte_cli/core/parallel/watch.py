"""Watch the workers of a launch: forward stop signals, and end all workers if one fails."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from latte_cli.core.errors import LatteError
from latte_cli.core.machine.interrupts import STOPPING
from latte_cli.core.parallel.commands import Cluster, Start
from latte_cli.core.parallel.crew import Member, end, wait_until
from latte_cli.core.parallel.logs import Relay, last_error
from latte_cli.core.parallel.rendezvous import Meeting

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_BEGIN = 300.0  # msrun imports MindSpore first: 3 s, minutes on a busy machine
SECONDS_TO_STOP = 60.0  # for the others, after one has stopped on request
SECONDS_TO_LEAVE = 20.0  # for workers of other machines to disconnect from the scheduler
STOPPED = tuple(128 + number for number in STOPPING)  # exit codes of a worker that saved and stopped


class Run:
    """The workers of one launch, and the stop signals sent to them."""

    def __init__(self, cluster: Cluster, log_dir: Path, *, collective: bool):
        self.cluster = cluster
        self.workers = [Member(log_dir, f"worker_{rank}") for rank in cluster.ranks]
        self.starter_log = log_dir / f"launcher_{cluster.node_rank}.log"
        self.starters: list[subprocess.Popen[bytes]] = []
        serves = collective and cluster.rank_table is None and cluster.launcher == "msrun"
        first = cluster.node_rank == 0
        self.scheduler = Member(log_dir, "scheduler") if serves and first else None
        self.meeting = Meeting(cluster.meeting_place) if serves and not first else None
        self.asked: signal.Signals | None = None
        self.reported: set[str] = set()
        self.stopped_since: float | None = None
        self.begun = time.monotonic()
        streams = {".log": sys.stderr.buffer, ".out": sys.stdout.buffer} if first else {}
        self.relays = [Relay(log_dir / f"worker_0{suffix}", stream) for suffix, stream in streams.items()]

    def begin(self, start: Start, environment: dict[str, str]) -> None:
        """Start one process of the launcher."""
        by_hand = self.cluster.rank_table is not None
        rank = start.environment.get("RANK_ID")
        log = self.starter_log.with_name(f"worker_{rank}.log") if by_hand else self.starter_log
        with log.open("wb") as file:
            self.starters.append(
                subprocess.Popen(
                    start.command,
                    env={**environment, **start.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C reaches the workers only through us
                )
            )

    def ask(self, number: int) -> None:
        """Ask all workers to stop; the second time, kill them."""
        again = self.asked is not None
        self.asked = signal.SIGKILL if again else signal.Signals(number)
        self.reported = set()

    def watch(self) -> int:
        """Wait until all workers have ended; return the exit code."""
        while True:
            self._tell()
            codes = {worker.name: worker.poll() for worker in self.workers}
            for relay in self.relays:
                relay.pump()
            for worker in self.workers:
                self._check(worker, codes[worker.name])
            ended = [code for code in codes.values() if code is not None]
            if len(ended) == len(codes):
                return self._finish(ended)
            self._check_others()
            if self.stopped_since and time.monotonic() - self.stopped_since > SECONDS_TO_STOP:
                end(self.workers)
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def close(self) -> None:
        """End all processes."""
        end(self._members())
        for starter in self.starters:
            with suppress(subprocess.TimeoutExpired):
                starter.wait(5)  # ends by itself after its workers
            if starter.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(starter.pid, signal.SIGKILL)
                starter.wait()
        end(self._members())  # including one that the launcher was about to start
        for relay in self.relays:
            relay.pump(last=True)
        if self.meeting is not None:
            self.meeting.close()

    def _members(self) -> list[Member]:
        return [*self.workers, *([self.scheduler] if self.scheduler else [])]

    def _tell(self) -> None:
        """Forward the stop signal to workers that have not received it, as they start."""
        if self.asked is None:
            return
        for worker in self.workers:
            if worker.name not in self.reported and worker.pid is not None:
                worker.send(self.asked)
                self.reported.add(worker.name)

    def _check(self, worker: Member, code: int | None) -> None:
        """Raise LatteError if a worker ended unexpectedly."""
        if code is None or code == 0:
            return
        if code in STOPPED or (self.asked is not None and code < 0):
            self.stopped_since = self.stopped_since or time.monotonic()
            return
        name = worker.name.replace("_", " ")
        where = f"{name} of {self.cluster.size}"
        if worker.failure.exists():
            reason = worker.failure.read_text("utf-8", "replace")
            with worker.log.open("a", encoding="utf-8") as file:
                file.write(f"{reason}\n")
            raise LatteError(f"{reason} ({where}; its log: {worker.log})")
        if code < 0:
            raise LatteError(f"{where} was killed by {signal.Signals(-code).name}; its log: {worker.log}")
        reason = last_error(worker.log) or f"exit code {code}"
        raise LatteError(f"{where} ended: {reason}; its log: {worker.log}")

    def _check_others(self) -> None:
        """Raise LatteError if the launcher or another machine has failed."""
        up = all(worker.pid is not None for worker in self.workers)
        failed = [starter.returncode for starter in self.starters if starter.poll()]
        late = not up and time.monotonic() - self.begun > SECONDS_TO_BEGIN
        if not up and (failed or late) and self.asked is None:
            reason = last_error(self.starter_log) or "the workers did not start"
            raise LatteError(f"{self.cluster.launcher}: {reason}; its log: {self.starter_log}")
        if not up and failed:
            raise SystemExit(128 + int(self.asked or 0))
        if self.scheduler and self.scheduler.poll() not in (None, 0) and self.asked is None:
            reason = last_error(self.scheduler.log) or "a worker does not answer"
            raise LatteError(f"the workers lost each other: {reason}; the log: {self.scheduler.log}")
        if self.meeting and up and self.meeting.is_over() and self.asked is None:
            host, port = self.cluster.meeting_place
            raise LatteError(
                f"the run has ended on its first machine ({host}:{port}); our log: {self.workers[0].log}"
            )

    def _finish(self, codes: list[int]) -> int:
        """The exit code after all workers have finished or stopped on request."""
        scheduler = self.scheduler
        if scheduler and self.cluster.nodes > 1:
            wait_until(lambda: scheduler.poll() is not None, SECONDS_TO_LEAVE)
        return max(128 - code if code < 0 else code for code in codes)
