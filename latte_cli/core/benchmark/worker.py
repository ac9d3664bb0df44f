"""A measurement in a process of its own: `python -m latte_cli.core.benchmark.worker JOB.json RESULT.json`."""

import json
import sys
from pathlib import Path
from typing import Any

from latte_cli.core.benchmark import measuring
from latte_cli.core.benchmark.rows import Row
from latte_cli.core.errors import LatteError
from latte_cli.core.files import write_whole
from latte_cli.core.settings import Settings


def main(job: Path, result: Path) -> None:
    """Do the job; what a user can fix becomes the result's `problem`."""
    wanted = json.loads(job.read_text("utf-8"))
    settings = Settings.model_validate(wanted["settings"])
    try:
        found = measure(wanted, settings)
    except LatteError as error:
        found = {"problem": str(error)}
    write_whole(result, json.dumps(found))


def measure(wanted: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The measurement of a job."""
    if wanted["kind"] == "train":
        return measuring.train(settings, Row(**wanted["row"]))
    if wanted["kind"] == "sample":
        return measuring.sample(settings, decodes=wanted["decodes"])
    return measuring.encode(settings) if wanted["kind"] == "encode" else measuring.machine(settings)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
