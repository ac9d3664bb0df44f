"""MindSpore's scheduler, the process through which workers connect; mpirun does not start one."""

import os
import socket
import subprocess
import sys
import time
import zlib
from contextlib import suppress

from latte_cli.core.errors import LatteError
from latte_cli.core.parallel.worker import SERVE
from latte_cli.core.parallel.world import World

SECONDS_TO_MEET = 120


def serve() -> None:
    """Be the scheduler: returns once all workers have left."""
    os.environ.setdefault("GLOG_v", "3")
    from mindspore import communication

    communication.init()


def meet_under_mpirun(world: World) -> None:
    """Make MindSpore's CPU collectives work under mpirun, which MindSpore supports for accelerators only.

    Sets the variables that msrun would set; rank 0 starts the scheduler. Raises LatteError if the workers are
    on several machines and no address is given.
    """
    local_size = int(os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", world.size))
    if local_size != world.size and not {"MS_SCHED_HOST", "MS_SCHED_PORT"} <= os.environ.keys():
        raise LatteError(
            "mpirun: found workers on several machines: give the address of rank 0 with"
            " mpirun -x MS_SCHED_HOST=its-address -x MS_SCHED_PORT=8118"
        )
    host = os.environ.get("MS_SCHED_HOST", "127.0.0.1")
    port = int(os.environ.get("MS_SCHED_PORT", _port_of_job()))
    meeting = {
        "MS_WORKER_NUM": str(world.size),
        "MS_SCHED_HOST": host,
        "MS_SCHED_PORT": str(port),
        "MS_TOPO_TIMEOUT": str(SECONDS_TO_MEET),
    }
    os.environ.update(meeting)
    if world.rank == 0:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMIX_"))}
        subprocess.Popen(
            [sys.executable, "-c", SERVE],
            env={**ours, "MS_ROLE": "MS_SCHED"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    _wait_for(host, port)
    os.environ.update({"MS_ROLE": "MS_WORKER", "MS_NODE_ID": str(world.rank)})


def _port_of_job() -> int:
    """A port that is the same in all workers of a job and most likely differs between jobs."""
    job = os.environ.get("PMIX_NAMESPACE", "") + os.environ.get("OMPI_MCA_orte_hnp_uri", "")  # noqa: SIM112 - Open MPI spells it so
    return 10000 + zlib.crc32(job.encode()) % 20000


def _wait_for(host: str, port: int) -> None:
    deadline = time.monotonic() + SECONDS_TO_MEET
    while not _listens(host, port):
        if time.monotonic() > deadline:
            raise LatteError(f"mpirun: nothing listens on {host}:{port}, expected rank 0's scheduler")
        time.sleep(0.2)


def _listens(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False
