"""Clips shared among workers of this machine, which leave the very files that one would have left.

Whoever starts the workers writes down the record of each clip; a worker makes every so many of them, and the
grid is made at the end.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from latte_cli.core.errors import LatteError
from latte_cli.core.files import made_folder, whole_file, write_whole
from latte_cli.core.json_files import BULKY_BYTES, read_json
from latte_cli.core.parallel.commands import Cluster
from latte_cli.core.parallel.launch import launch, same_command
from latte_cli.core.parallel.world import World
from latte_cli.core.sampling.sidecar import Record
from latte_cli.core.sampling.write import (
    ClipFiles,
    ClipStep,
    Frames,
    SampleReport,
    write_clips,
    write_grid,
)

Make = Callable[[Mapping[str, Record], ClipFiles], Iterator[ClipStep]]
"""(records by name, target) -> the steps of those clips."""

LOGS = "logs"  # of the workers, in the clips' folder
WORK = "clips.json"  # there: what there is to do


def make_all(
    records: Mapping[str, Record], target: ClipFiles, make: Make, workers: int = 1
) -> Iterator[SampleReport]:
    """Make and write all clips, in this process or by several workers that run this same command.

    Workers call `make_share`; their files are told once all are there. Raises LatteError where clips cannot
    be written, before any is made, and SystemExit with the workers' exit code when they were stopped.
    """
    with made_folder(target.folder):
        if workers == 1 or len(records) == 1:
            yield from write_clips(make(records, target), records, target)
        else:
            yield from _make_together(records, target, workers)


def _make_together(records: Mapping[str, Record], target: ClipFiles, workers: int) -> Iterator[SampleReport]:
    logs = target.folder / LOGS
    for name in records:
        _frames(logs, name).unlink(missing_ok=True)  # of a run that was stopped
    write_whole(logs / WORK, json.dumps(records))
    try:
        code = launch(same_command(), Cluster(min(workers, len(records))), log_dir=logs, collective=False)
        if code:
            raise SystemExit(code)
        plan = (1,) * len(records)
        for place, name in enumerate(records):
            sidecar = target.folder / f"{name}.json"
            names = read_json(sidecar, Record)["files"]
            files = (*(target.folder / file for file in names), sidecar)
            yield SampleReport(place, 1, plan, files)
        pictures = [np.load(path) for name in records if (path := _frames(logs, name)).exists()]
        if len(pictures) > 1:
            yield SampleReport(len(records) - 1, 1, plan, tuple(write_grid(target, pictures)))
    finally:
        for path in (logs / WORK, *(_frames(logs, name) for name in records)):
            path.unlink(missing_ok=True)


def has_work(target: ClipFiles) -> bool:
    """Whether workers of this command are to sample now."""
    return (target.folder / LOGS / WORK).is_file()


def make_share(target: ClipFiles, make: Make, world: World) -> Iterator[SampleReport]:
    """One worker's share of what `make_all` wrote down.

    Raises LatteError where it wrote nothing: under a launcher of somebody else.
    """
    logs = target.folder / LOGS
    if not has_work(target):
        raise LatteError(
            f"{world.launcher}: sampling starts its workers itself: give --parallel {world.size}"
        )
    records = read_json(logs / WORK, dict[str, Record], most=BULKY_BYTES)
    mine = dict(list(records.items())[world.rank :: world.size])

    def keep(name: str, frames: Frames) -> None:
        with whole_file(_frames(logs, name)) as partial:
            np.save(partial, frames)

    yield from write_clips(make(mine, target), mine, target, keep=keep)


def _frames(logs: Path, name: str) -> Path:
    """Where a worker leaves a clip's frames for the grid."""
    return logs / f"{name}.frames.npy"
