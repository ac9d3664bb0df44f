"""Wrapper that launchers start for each worker: runs the command on its share of the cores.

It reports the worker's process id and exit code through files, and ends with the worker and with the
launcher. Run as a script with any Python from 3.7, using only the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

SERVE = "from mindspore.communication import init; init()"  # MindSpore's scheduler; ends with the workers
CORES = "LATTE_CORES"  # core numbers of all workers on this machine
SECONDS_BETWEEN_LOOKS = 0.1
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def main() -> None:
    """Run the command of the arguments as the worker described by the environment."""
    environment = dict(os.environ)
    launcher_pid = int(environment.pop("LATTE_LAUNCHER_PID"))
    logs = environment.pop("LATTE_LOGS")
    cores = [int(core) for core in environment.get(CORES, "").split(",") if core]
    local_size = int(environment.pop("LATTE_LOCAL_SIZE"))
    node_rank = int(environment.pop("LATTE_NODE_RANK"))
    serves = environment.pop("LATTE_SERVES") == "1"
    command = sys.argv[1:]
    if environment.get("MS_ROLE") == "MS_SCHED":
        if not serves or node_rank > 0:
            return  # the scheduler is not needed, or two "machines" are one and the first runs it
        name, command = "scheduler", [environment.pop("LATTE_PYTHON"), "-c", SERVE]
    else:
        rank = _first(environment, "OMPI_COMM_WORLD_RANK", "MS_NODE_ID", "RANK_ID")
        local_rank = _first(environment, "OMPI_COMM_WORLD_LOCAL_RANK", "LATTE_LOCAL_RANK", "DEVICE_ID")
        name = f"worker_{rank}"
        environment["LATTE_WORKER_FAILURE"] = os.path.join(logs, name + ".failure")
        _share(cores, local_rank, local_size)
        _redirect(os.path.join(logs, name), merged="OMPI_COMM_WORLD_RANK" in environment, first=rank == 0)
    _supervise(command, environment, os.path.join(logs, name), launcher_pid)


def _first(environment: dict[str, str], *names: str) -> int:
    return int(next(environment[name] for name in names if name in environment))


def _share(cores: list[int], local_rank: int, local_size: int) -> None:
    """Bind to this worker's cores, from which MindSpore derives the sizes of its thread pools."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        return
    each = len(cores) // local_size
    mine = cores[local_rank * each : (local_rank + 1) * each] or [cores[local_rank % len(cores)]]
    os.sched_setaffinity(0, mine)


def _redirect(stem: str, merged: bool, first: bool) -> None:
    """Redirect output to separate logs if all workers share a stream; keeps the first one's stdout apart."""
    if merged:
        _point(stem + ".log", 1, 2)
    if first:
        _point(stem + ".out", 1)


def _point(path: str, *descriptors: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in descriptors:
        os.dup2(file, descriptor)
    os.close(file)


def _supervise(command: list[str], environment: dict[str, str], stem: str, launcher_pid: int) -> None:
    """Run the command until it or the launcher ends, and write its exit code."""
    me = os.getpid()
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: end_with(me),  # noqa: PLW1509 - no threads here
        start_new_session=True,
    )
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, lambda number, _: process.send_signal(number))
    _write(stem + ".pid", f"{process.pid} {os.getpid()}")
    while process.poll() is None:
        if not lives(launcher_pid):
            process.kill()  # immediately: a resumed run must not run next to this worker
        time.sleep(SECONDS_BETWEEN_LOOKS)
    _write(stem + ".exit", str(process.returncode))


def end_with(parent: int) -> None:
    """Make Linux kill this process when `parent`, which started it, ends; exit if it has ended already.

    Does nothing on other systems.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def lives(pid: int) -> bool:
    """Whether a process is running (and not a zombie)."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except ProcessLookupError:
        return False
    except OSError:
        return True  # of another user, or a system without /proc


def _write(path: str, text: str) -> None:
    with open(path + ".partial", "w") as file:
        file.write(text)
    os.replace(path + ".partial", path)


if __name__ == "__main__":
    main()
