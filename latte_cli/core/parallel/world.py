"""This process's rank and the number of workers, from launchers' environment variables. No MindSpore."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from latte_cli.core.errors import LatteError
from latte_cli.core.storage.json_files import Model, read_json

Launcher = Literal["msrun", "mpirun", "rank table"]

FAILURE = "LATTE_WORKER_FAILURE"  # file to which a worker that we launched writes the reason of a failure


class _Device(Model):
    """A device of a rank table; Ascend's tools write its numbers as text."""

    model_config = ConfigDict(strict=False)

    rank_id: int = Field(ge=0)
    device_id: int = Field(ge=0)


class _Server(Model):
    device: tuple[_Device, ...]


class _RankTable(Model):
    """The part of an Ascend rank table that defines the ranks."""

    server_list: tuple[_Server, ...]


@dataclass(frozen=True)
class World:
    """This worker's `rank` of `size`, `local_rank` on its machine, and launcher, if any."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    launcher: Launcher | None = None
    is_scheduler: bool = False
    """msrun starts an additional process with the same command as the scheduler."""

    @property
    def is_first(self) -> bool:
        """Whether this is the worker that writes files."""
        return self.rank == 0 and not self.is_scheduler


def current_world(environment: Mapping[str, str] = os.environ) -> World:
    """This process's rank and size from msrun, mpirun or a rank table; a single worker without launcher.

    Raises LatteError if a launcher's variables are incomplete or inconsistent.
    """
    # msrun first: it may be started by mpirun, once per machine, or with a rank table.
    if "MS_ROLE" in environment:
        return _from_msrun(environment)
    if "OMPI_COMM_WORLD_RANK" in environment:
        rank, size = (_number(environment, f"OMPI_COMM_WORLD_{name}") for name in ("RANK", "SIZE"))
        local_rank = _number(environment, "OMPI_COMM_WORLD_LOCAL_RANK", rank)
        return _checked(World(rank, size, local_rank, "mpirun"))
    if "RANK_TABLE_FILE" in environment and "RANK_ID" in environment:
        return _from_rank_table(environment)
    return World()


def _from_msrun(environment: Mapping[str, str]) -> World:
    size = _number(environment, "MS_WORKER_NUM")
    if environment["MS_ROLE"] == "MS_SCHED":
        return World(size=size, launcher="msrun", is_scheduler=True)
    if "MS_NODE_ID" not in environment:
        raise LatteError(
            "msrun: found no MS_NODE_ID, so the worker's rank is unknown: with several machines, give"
            " msrun --node_rank"
        )
    rank = _number(environment, "MS_NODE_ID")
    return _checked(World(rank, size, _number(environment, "DEVICE_ID", rank), "msrun"))


def _from_rank_table(environment: Mapping[str, str]) -> World:
    rank = _number(environment, "RANK_ID")
    servers = read_rank_table(Path(environment["RANK_TABLE_FILE"]))
    size = sum(len(devices) for devices in servers)
    neighbours = next((sorted(devices) for devices in servers if rank in devices), [rank])
    return _checked(World(rank, size, neighbours.index(rank), "rank table"))


def read_rank_table(path: Path) -> list[dict[int, int]]:
    """The devices of each machine in an Ascend rank table, by rank.

    Raises LatteError if the file is not a rank table or its ranks are not exactly 0, 1, ...
    """
    table = read_json(path, _RankTable, expected="a rank table")
    servers = [{device.rank_id: device.device_id for device in server.device} for server in table.server_list]
    listed = sum(len(server.device) for server in table.server_list)
    ranks = sorted(rank for server in servers for rank in server)
    if not ranks or ranks != list(range(listed)):
        raise LatteError(f"{path}: found ranks {ranks}, expected 0, 1, ... once each")
    return servers


def report_failure(reason: str) -> bool:
    """Write the reason of a failure for the launcher to show; False if there is none."""
    path = os.environ.get(FAILURE)
    if path is None:
        return False
    Path(path).write_text(reason, "utf-8")
    return True


def _number(environment: Mapping[str, Any], name: str, default: int | None = None) -> int:
    found = environment.get(name, default)
    try:
        return int(found)
    except (TypeError, ValueError):
        raise LatteError(f"{name}: found {found!r} in the environment, expected a number") from None


def _checked(world: World) -> World:
    if not 0 <= world.rank < world.size:
        raise LatteError(f"{world.launcher}: found rank {world.rank} of {world.size}, expected 0 to size - 1")
    return world
