"""The program that tests run as workers: `program.py WHAT FOLDER`. Not a test itself."""

import os
import signal
import sys
import time
from pathlib import Path

from latte_cli.core.parallel.shutdown import own_exit_code
from latte_cli.core.parallel.world import World, current_world, report_failure

SECONDS_LATE = 40.0  # MindSpore's sums wait for 30 by default


def main(what: str, folder: Path) -> None:
    """Be one worker."""
    world = current_world()
    if what in ("average", "wait", "late"):
        together(world, folder, waits=what == "wait", late=what == "late")
    else:
        alone(world, folder, what)


def alone(world: World, folder: Path, what: str) -> None:
    """What needs no MindSpore."""
    print(f"out {world}")
    print(f"err {world.rank}", file=sys.stderr, flush=True)
    (folder / f"place_{world.rank}").write_text(
        f"{os.environ.get('DEVICE_ID')} {sorted(os.sched_getaffinity(0))}"
    )
    (folder / f"ready_{world.rank}").touch()
    if world.rank == 1 and what == "refuse":
        report_failure("data.root: found nothing, expected videos")
        sys.exit(1)
    if world.rank == 1 and what == "raise":
        raise ValueError("out of luck")
    if what != "place":
        time.sleep(120)


def together(world: World, folder: Path, *, waits: bool, late: bool) -> None:
    """Average, the first one `late`, and wait in step with the others for a signal."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))

    from latte_cli.core.machine.device import use_device
    from latte_cli.core.parallel.collective import join

    use_device("cpu")
    collective = join(world)
    import numpy as np

    if late and world.is_first:
        time.sleep(SECONDS_LATE)
    own = np.random.default_rng(world.rank)
    arrays = [own.standard_normal(shape).astype(np.float32) for shape in ((3, 5), (7,), (2, 2, 2))]
    collective.average(arrays)
    np.savez(folder / f"means_{world.rank}.npz", *arrays)
    facts = [collective.anywhere(world.rank == 1), collective.anywhere(False)]
    print(f"mean {collective.mean([world.rank, 0.5])}, facts {facts}", flush=True)
    (folder / f"ready_{world.rank}").touch()
    while waits and not collective.anywhere(bool(asked)):
        time.sleep(0.05)
    if waits:
        time.sleep(1.5 * world.is_first)  # the worker that writes ends last
        (folder / f"saved_{world.rank}").touch()
        sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    with own_exit_code():
        main(sys.argv[1], Path(sys.argv[2]))
