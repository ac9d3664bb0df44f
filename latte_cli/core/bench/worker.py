"""A measurement in a new process: `python -m latte_cli.core.bench.worker JOB.json RESULT.json PARENT`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from latte_cli.core.bench import measuring
from latte_cli.core.bench.rows import Row
from latte_cli.core.checkpoints.published import Hub
from latte_cli.core.errors import LatteError
from latte_cli.core.experiment.local import local_settings
from latte_cli.core.parallel.commands import Cluster
from latte_cli.core.parallel.launch import launch, same_command
from latte_cli.core.parallel.scheduler import serve
from latte_cli.core.parallel.shutdown import own_exit_code
from latte_cli.core.parallel.worker import end_with
from latte_cli.core.parallel.world import World, current_world, report_failure
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.files import write_file
from latte_cli.core.storage.json_files import read_json


def main(job: Path, result: Path, parent: int) -> None:
    """Run the measurement; a LatteError becomes the result's `problem`. Ends when process `parent` ends.

    A row with several cards starts its workers, which also run this; the first one writes the result.
    """
    task, world = read_json(job, dict[str, Any]), current_world()
    if world.launcher is None:
        end_with(parent)
    if world.is_scheduler:
        serve()
        return
    try:
        if world.launcher is None and (cores := task.get("cores")):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
        cards = task.get("row", {}).get("cards", 1)
        if world.launcher is None and cards > 1:
            launch(same_command(), Cluster(cards), log_dir=result.parent / "logs")
            return
        settings = local_settings(Settings.model_validate(task["settings"]), Hub(), "bench")
        found = measure(task, settings, world)
    except LatteError as error:
        if report_failure(str(error)):  # the launching process raises the same error here
            sys.exit(1)
        found = {"problem": str(error)}
    if world.is_first:
        write_file(result, json.dumps(found))


def measure(task: dict[str, Any], settings: Settings, world: World) -> dict[str, Any]:
    """The measurement of a job."""
    if task["kind"] == "train":
        return measuring.train(settings, Row(**task["row"]), world)
    if task["kind"] == "sample":
        return measuring.sample(settings, decodes=task["decodes"])
    return measuring.encode(settings) if task["kind"] == "encode" else measuring.machine(settings)


if __name__ == "__main__":
    with own_exit_code():
        main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
