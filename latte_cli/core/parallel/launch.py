"""Start a command as many workers, show the first one's progress, and see all of them to the end together."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from latte_cli.core.interrupts import on_stop_signals
from latte_cli.core.parallel.commands import Cluster, check_cluster, starts
from latte_cli.core.parallel.watch import Run
from latte_cli.core.parallel.worker import CORES


def same_command() -> list[str]:
    """The command line that this process was started with, to run it again as workers."""
    return [sys.executable, *sys.orig_argv[1:]]


def launch(command: Sequence[str], cluster: Cluster, *, log_dir: Path, collective: bool = True) -> int:
    """Run `command` as this machine's workers of `cluster` and return its exit code.

    Each finds its place with `current_world`, bound to its share of the cores we may use. collective: whether
    they will `join`. What rank 0 writes appears on our stdout and stderr; the rest is in log_dir. SIGTERM,
    SIGHUP and Ctrl-C reach all workers, which may save and stop; the second one kills them. Raises
    LatteError, with the reason and the log's path, when a worker ends in any other way: the others are
    killed.
    """
    check_cluster(cluster)
    log_dir = log_dir.resolve()
    log_dir.mkdir(parents=True, exist_ok=True)
    run = Run(cluster, log_dir, collective=collective)
    environment = _environment(cluster, log_dir, collective=collective)
    try:
        with on_stop_signals(lambda number, _: run.ask(number)):  # to us: for the workers instead
            for start in starts(command, cluster, log_dir):
                run.begin(start, environment)
            return run.watch()
    finally:
        run.close()


def _environment(cluster: Cluster, log_dir: Path, *, collective: bool) -> dict[str, str]:
    """What worker.py reads, and what makes the workers write to their logs as they would to our terminal."""
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
