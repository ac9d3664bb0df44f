"""Start a command as several workers, show the first one's progress, and wait for all of them."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from latte_cli.core.machine.interrupts import on_stop_signals
from latte_cli.core.parallel.commands import Cluster, check_cluster, starts
from latte_cli.core.parallel.watch import Run
from latte_cli.core.parallel.worker import CORES


def same_command() -> list[str]:
    """The command line of this process, to run it again as workers."""
    return [sys.executable, *sys.orig_argv[1:]]


def launch(command: Sequence[str], cluster: Cluster, *, log_dir: Path, collective: bool = True) -> int:
    """Run `command` as this machine's workers of `cluster` and return its exit code.

    Workers find their rank with `current_world` and are bound to a share of the available cores. collective:
    whether they call `join`. The output of rank 0 appears on our stdout and stderr; the others write to
    log_dir. SIGTERM, SIGHUP and Ctrl-C are forwarded to all workers, which may save and stop; a second one
    kills them. Raises LatteError, with the reason and the log's path, if a worker ends otherwise; the others
    are killed.
    """
    check_cluster(cluster)
    log_dir = log_dir.resolve()
    log_dir.mkdir(parents=True, exist_ok=True)
    run = Run(cluster, log_dir, collective=collective)
    environment = _environment(cluster, log_dir, collective=collective)
    try:
        with on_stop_signals(lambda number, _: run.ask(number)):  # forwarded to the workers
            for start in starts(command, cluster, log_dir):
                run.begin(start, environment)
            return run.watch()
    finally:
        run.close()


def _environment(cluster: Cluster, log_dir: Path, *, collective: bool) -> dict[str, str]:
    """Environment for worker.py, and variables that make workers format logs for our terminal."""
    ours = {
        "LATTE_LAUNCHER_PID": str(os.getpid()),
        "LATTE_LOGS": str(log_dir),
        "LATTE_LOCAL_SIZE": str(cluster.workers),
        "LATTE_NODE_RANK": str(cluster.node_rank),
        "LATTE_SERVES": str(int(collective)),
        "LATTE_PYTHON": sys.executable,
        "PYTHONUNBUFFERED": "1",
    }
    if hasattr(os, "sched_getaffinity"):
        ours[CORES] = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    if sys.stderr.isatty():
        size = shutil.get_terminal_size()
        ours |= {"FORCE_COLOR": "1", "COLUMNS": str(size.columns), "LINES": str(size.lines)}
    return {"GLOG_v": "3", **os.environ, **ours}
