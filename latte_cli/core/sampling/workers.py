"""Share clips among workers of this machine; the files are identical to those of a single worker.

The launching process writes the specs of all clips; each worker makes a share of them, and the grid is made
at the end.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latte_cli.core.checkpoints.published import Hub
from latte_cli.core.errors import LatteError
from latte_cli.core.parallel.commands import Cluster
from latte_cli.core.parallel.launch import launch, same_command
from latte_cli.core.parallel.world import World
from latte_cli.core.sampling.generator import Frames, Generator
from latte_cli.core.sampling.local import local_spec
from latte_cli.core.sampling.spec import ClipSpec, parse_spec
from latte_cli.core.sampling.write import (
    ClipFiles,
    SampleReport,
    write_clips,
    write_grid,
)
from latte_cli.core.storage.files import atomic_file, new_folder, write_file
from latte_cli.core.storage.json_files import BULKY_BYTES, read_json

LOGS = "logs"  # of the workers, in the clips' folder
WORK = "clips.json"  # in this folder: the specs


def make_all(
    generator: Generator, specs: Sequence[ClipSpec], target: ClipFiles, workers: int = 1
) -> Iterator[SampleReport]:
    """Make and write all clips, in this process or with several workers that run this command.

    Workers call `make_share`; their files are reported when all are written. Raises LatteError if clips
    cannot be written, before any is made, and SystemExit with the workers' exit code if they were stopped.
    """
    with new_folder(target.folder):
        if workers == 1 or len(specs) == 1:
            yield from write_clips(generator.generate(specs, decodes=target.decodes), specs, target)
        else:
            yield from _make_together(specs, target, workers)


def _make_together(specs: Sequence[ClipSpec], target: ClipFiles, workers: int) -> Iterator[SampleReport]:
    logs = target.folder / LOGS
    for spec in specs:
        _frames(logs, spec.name).unlink(missing_ok=True)  # of a run that was stopped
    write_file(logs / WORK, json.dumps([spec.model_dump(mode="json") for spec in specs]))
    try:
        code = launch(same_command(), Cluster(min(workers, len(specs))), log_dir=logs, collective=False)
        if code:
            raise SystemExit(code)
        plan = (1,) * len(specs)
        for place, spec in enumerate(specs):
            sidecar = target.folder / f"{spec.name}.json"
            files = read_json(sidecar, ClipSpec).files
            yield SampleReport(place, 1, plan, (*(target.folder / file for file in files), sidecar))
        pictures = [np.load(path) for spec in specs if (path := _frames(logs, spec.name)).exists()]
        if len(pictures) > 1:
            yield SampleReport(len(specs) - 1, 1, plan, tuple(write_grid(target, pictures)))
    finally:
        for path in (logs / WORK, *(_frames(logs, spec.name) for spec in specs)):
            path.unlink(missing_ok=True)


def has_work(target: ClipFiles) -> bool:
    """Whether this process's workers were started for sampling."""
    return (target.folder / LOGS / WORK).is_file()


def make_share(
    target: ClipFiles, generator_of: Callable[[ClipSpec], Generator], world: World
) -> Iterator[SampleReport]:
    """Make one worker's share of the clips of `make_all`.

    Raises LatteError if there are no specs, under another launcher.
    """
    logs = target.folder / LOGS
    if not has_work(target):
        raise LatteError(f"{world.launcher}: sampling starts its workers itself: use --parallel {world.size}")
    contents = read_json(logs / WORK, list[dict[str, Any]], most=BULKY_BYTES)
    source, own = str(logs / WORK), contents[world.rank :: world.size]
    mine = [local_spec(parse_spec(content, source=source), Hub()) for content in own]

    def keep(name: str, frames: Frames) -> None:
        with atomic_file(_frames(logs, name)) as partial:
            np.save(partial, frames)

    steps = generator_of(mine[0]).generate(mine, decodes=target.decodes)
    yield from write_clips(steps, mine, target, keep=keep)


def _frames(logs: Path, name: str) -> Path:
    """The file of a clip's frames for the grid."""
    return logs / f"{name}.frames.npy"
