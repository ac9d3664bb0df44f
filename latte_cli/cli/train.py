"""`latte train`."""

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from latte_cli.cli import options
from latte_cli.cli.options import data_option, parallel_option, run_option
from latte_cli.cli.running import load, planned
from latte_cli.core.errors import one_line

if TYPE_CHECKING:
    from latte_cli.core.checkpoints.published import Hub

EXAMPLES = (
    ("Train on a folder of videos", "latte train -c sky.yaml --data videos/"),
    ("Train on cached latents, with four workers", "latte train -c sky.yaml --cache cache/sky --parallel 4"),
    ("Resume from the newest checkpoint", "latte train -c sky.yaml --resume auto"),
    ("Show settings, memory and time without training", "latte train -c sky.yaml --dry-run"),
)

CacheDir = Annotated[
    Path | None,
    data_option("--cache", metavar="DIR", help="Train on the latents in this cache (cache.dir)."),
]
TrainSteps = Annotated[
    int | None, run_option("--steps", metavar="N", help="Number of optimizer steps (train.steps).")
]
Resume = Annotated[
    str | None,
    run_option(
        "--resume",
        metavar="auto|PATH",
        help="Resume from the newest checkpoint (auto) or from the given one.",
    ),
]
AllowChanges = Annotated[
    bool, run_option("--allow-changes", help="Resume even if settings or videos have changed.")
]
Nodes = Annotated[
    int,
    parallel_option("--nodes", metavar="N", min=1, help="Number of machines, each with --parallel workers."),
]
NodeRank = Annotated[
    int, parallel_option("--node-rank", metavar="K", min=0, help="Index of this machine, from 0.")
]
MasterAddr = Annotated[
    str, parallel_option("--master-addr", metavar="HOST", help="Address of machine 0, with --nodes.")
]
MasterPort = Annotated[
    int | None,
    parallel_option(
        "--master-port",
        metavar="PORT",
        help="Port on machine 0 for connecting the workers. Default: a free one.",
    ),
]
Launcher = Annotated[
    Literal["msrun", "mpirun"], parallel_option("--launcher", help="Program that starts the workers.")
]
RankTable = Annotated[
    Path | None,
    parallel_option("--rank-table", metavar="FILE", help="Ascend rank table of machines and devices."),
]


def train(
    data: options.Data = None,
    cache: CacheDir = None,
    run_dir: options.RunDir = None,
    steps: TrainSteps = None,
    resume: Resume = None,
    allow_changes: AllowChanges = False,
    parallel: options.Parallel = 1,
    nodes: Nodes = 1,
    node_rank: NodeRank = 0,
    master_addr: MasterAddr = "127.0.0.1",
    master_port: MasterPort = None,
    launcher: Launcher = "msrun",
    rank_table: RankTable = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    log_level: options.LogLevel = "warning",
) -> None:
    """Train a model on videos or on cached latents."""
    flags = {"data.root": data, "cache.dir": cache, "run_dir": run_dir, "train.steps": steps}
    settings = load("train", config, assignments, {**flags, "device": device}, log_level)
    from latte_cli.core.experiment.local import local_settings
    from latte_cli.core.parallel.commands import Cluster, check_cluster
    from latte_cli.core.parallel.scheduler import serve
    from latte_cli.core.parallel.world import current_world
    from latte_cli.core.planning.planned import Planned
    from latte_cli.core.planning.runs import train_plan

    cluster = Cluster(parallel, nodes, node_rank, master_addr, master_port, launcher, rank_table)
    world = current_world()
    workers = cluster.size if world.launcher is None else world.size

    def make(hub: "Hub") -> "Planned":
        ready = local_settings(settings, hub, "train")
        plan = train_plan(ready, workers=workers)
        if world.launcher is None:
            plan.check(lambda: check_cluster(cluster))
        if dry_run:
            from latte_cli.core.planning.first_batch import add_first_batch

            add_first_batch(plan, ready, workers=workers)
        return Planned(ready, plan)

    made = planned(make, dry_run=dry_run)
    if made is None:
        return
    if world.is_scheduler:
        serve()
        return
    settings = made.settings or settings
    from latte_cli.cli.progress import follow, show, training_line
    from latte_cli.core.recipes import train as recipe

    checkpoint: Path | Literal["auto"] | None = None
    if resume is not None:
        checkpoint = "auto" if resume == "auto" else Path(resume)
    if world.launcher is None and cluster.size > 1:
        raise typer.Exit(recipe.run_parallel(settings, cluster, resume=checkpoint))
    reports = recipe.run(settings, resume=checkpoint, allow_changes=allow_changes)
    deque(follow(reports, training_line), maxlen=0)
    show(f"{one_line(settings.run_dir)}\n")
