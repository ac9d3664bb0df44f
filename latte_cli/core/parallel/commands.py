"""The commands that start the workers of this machine: msrun, mpirun, or one per device of a rank table."""

import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latte_cli.core.errors import LatteError
from latte_cli.core.parallel import worker
from latte_cli.core.parallel.world import read_rank_table

DEFAULT_PORT = 8118  # msrun's default; all machines must use the same
MEETING_SECONDS = {False: 120, True: 600}  # time-out for connecting: on one machine, on several


@dataclass(frozen=True)
class Cluster:
    """The workers of a run, and the address of the scheduler."""

    workers: int
    """Workers on this machine; every machine has the same number."""
    nodes: int = 1
    node_rank: int = 0
    master_addr: str = "127.0.0.1"
    master_port: int | None = None
    launcher: Literal["msrun", "mpirun"] = "msrun"
    rank_table: Path | None = None

    @property
    def size(self) -> int:
        """Workers on all machines."""
        return self.workers * self.nodes

    @property
    def meeting_place(self) -> tuple[str, int]:
        """Address of the scheduler, for several machines."""
        return self.master_addr, self.master_port or DEFAULT_PORT

    @property
    def ranks(self) -> range:
        """The ranks of this machine's workers."""
        return range(self.node_rank * self.workers, (self.node_rank + 1) * self.workers)


@dataclass(frozen=True)
class Start:
    """A process to start, and additional environment variables."""

    command: Sequence[str]
    environment: Mapping[str, str]


def check_cluster(cluster: Cluster) -> None:
    """Raise LatteError if the workers cannot be started this way."""
    if cluster.workers < 1:
        raise LatteError(f"--parallel: found {cluster.workers}, expected at least 1")
    if cluster.nodes < 1 or not 0 <= cluster.node_rank < cluster.nodes:
        raise LatteError(
            f"--node-rank: found {cluster.node_rank} of --nodes {cluster.nodes}, expected 0 to nodes - 1"
        )
    if cluster.master_port is not None and not 1024 <= cluster.master_port <= 65535:
        raise LatteError(f"--master-port: found {cluster.master_port}, expected 1024 to 65535")
    if cluster.rank_table is not None:
        _check_rank_table(cluster, cluster.rank_table)
    elif cluster.launcher == "mpirun":
        if cluster.nodes > 1:
            raise LatteError(
                "--nodes: with mpirun, run the command under mpirun --hostfile FILE,"
                " without --nodes and --parallel"
            )
        if shutil.which("mpirun") is None:
            raise LatteError(
                "--launcher: found no mpirun on the PATH, expected Open MPI's, or --launcher msrun"
            )


def starts(command: Sequence[str], cluster: Cluster, log_dir: Path) -> list[Start]:
    """The processes that start this machine's workers, each running `command` through worker.py."""
    if cluster.rank_table is not None:
        return _by_rank_table(command, cluster, cluster.rank_table)
    port = cluster.master_port or (free_port() if cluster.nodes == 1 else DEFAULT_PORT)
    if cluster.launcher == "mpirun":
        return [_by_mpirun(command, cluster, port)]
    return [_by_msrun(command, cluster, port, log_dir)]


def free_port() -> int:
    """A TCP port that is currently free."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _by_msrun(command: Sequence[str], cluster: Cluster, port: int, log_dir: Path) -> Start:
    """https://www.mindspore.cn/tutorials/en/r2.10.0/parallel/msrun_launcher.html."""
    folder = Path(sys.executable).parent
    msrun = folder / "msrun"
    module = [sys.executable, "-m", "mindspore.parallel.cluster.run"]
    options = {
        "worker_num": cluster.size,
        "local_worker_num": cluster.workers,
        "node_rank": cluster.node_rank,
        "master_addr": cluster.master_addr,
        "master_port": port,
        "cluster_time_out": MEETING_SECONDS[cluster.nodes > 1],
        "log_dir": log_dir,
        # With --join, it would kill all workers as soon as one exits with a signal's code, before they save.
        "join": False,
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    start = [str(msrun)] if msrun.exists() else module
    # It runs the `python3` on the PATH, independently of its own Python.
    path = os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)])
    return Start([*start, *flags, "python3", worker.__file__, *command], {"PATH": path})


def _by_mpirun(command: Sequence[str], cluster: Cluster, port: int) -> Start:
    """https://www.mindspore.cn/tutorials/en/r2.10.0/parallel/mpirun.html; workers set their own affinity."""
    flags = ["-n", str(cluster.workers), "--oversubscribe", "--bind-to", "none"]
    if os.geteuid() == 0:
        flags.append("--allow-run-as-root")
    meet = {"MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": str(port)}
    return Start(["mpirun", *flags, sys.executable, worker.__file__, *command], meet)


def _by_rank_table(command: Sequence[str], cluster: Cluster, rank_table: Path) -> list[Start]:
    """https://www.mindspore.cn/tutorials/en/r2.7.0/parallel/rank_table.html: one process per device."""
    devices = sorted(read_rank_table(rank_table)[cluster.node_rank].items())
    return [
        Start(
            [sys.executable, worker.__file__, *command],
            {
                "RANK_TABLE_FILE": str(rank_table.resolve()),
                "RANK_SIZE": str(cluster.size),
                "RANK_ID": str(rank),
                "DEVICE_ID": str(device),
                "LATTE_LOCAL_RANK": str(place),
            },
        )
        for place, (rank, device) in enumerate(devices)
    ]


def _check_rank_table(cluster: Cluster, rank_table: Path) -> None:
    servers = read_rank_table(rank_table)
    found = [len(devices) for devices in servers]
    if found != [cluster.workers] * cluster.nodes:
        raise LatteError(
            f"{rank_table}: found {len(found)} machines with {found} devices,"
            f" expected --nodes {cluster.nodes} with --parallel {cluster.workers} each"
        )
    in_order = [rank for devices in servers for rank in sorted(devices)]
    if in_order != sorted(in_order):
        raise LatteError(f"{rank_table}: found ranks {in_order}, expected them machine by machine")
