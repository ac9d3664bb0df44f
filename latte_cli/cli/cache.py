"""`latte cache`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from latte_cli.cli import options
from latte_cli.cli.options import output_option, run_option
from latte_cli.cli.running import follow_caching, follow_share, load, planned_caching, show_faults

EXAMPLES = (
    ("Encode the videos of an experiment", "latte cache -c sky.yaml --out cache/sky"),
    ("Continue at the video with index 120", "latte cache -c sky.yaml --out cache/sky --resume 120"),
    ("Check every entry, and encode the faulty ones again", "latte cache -c sky.yaml --verify --repair"),
)


def _place(text: str) -> str:
    """`auto` or the index of a video. Raises typer.BadParameter for anything else."""
    if text != "auto" and not text.isdecimal():
        raise typer.BadParameter(f"{text}: expected auto, or the index of a video, counted from 0")
    return text


CacheOut = Annotated[
    Path | None, output_option("--out", metavar="DIR", help="Folder for the latents (cache.dir).")
]
CacheType = Annotated[
    Literal["numpy", "mindrecord"] | None, output_option("--type", help="Storage format (cache.type).")
]
CacheResume = Annotated[
    str,
    run_option(
        "--resume",
        metavar="auto|N",
        parser=_place,
        help="auto: skip videos whose entry is complete and unchanged. N: start at the video with index N.",
    ),
]
Verify = Annotated[bool, run_option("--verify", help="Check every entry and encode nothing.")]
Repair = Annotated[
    bool,
    run_option("--repair", help="With --verify: remove faulty entries and encode those videos again."),
]
Overwrite = Annotated[bool, run_option("--overwrite", help="Encode every video again.")]


def cache(
    data: options.Data = None,
    out: CacheOut = None,
    kind: CacheType = None,
    resume: CacheResume = "auto",
    verify: Verify = False,
    repair: Repair = False,
    overwrite: Overwrite = False,
    parallel: options.Parallel = 1,
    config: options.Config = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    log_level: options.LogLevel = "warning",
) -> None:
    """Encode every video once and store its latents."""
    if repair and not verify:
        raise typer.BadParameter("requires --verify", param_hint="--repair")
    flags = {"data.root": data, "cache.dir": out, "cache.type": kind, "device": device}
    encodes = repair or not verify
    settings = load("cache" if encodes else None, config, assignments, flags, log_level)
    start = None if resume == "auto" else int(resume)
    ready = planned_caching(settings, encodes=encodes, start=start, overwrite=overwrite, dry_run=dry_run)
    if ready is None:
        return
    settings = ready.settings or settings
    from latte_cli.core.parallel.world import current_world
    from latte_cli.core.recipes import cache as recipe

    world = current_world()
    if world.launcher is not None:  # one of the workers that --parallel started
        follow_share(recipe.run_share(settings, rank=world.rank, world=world.size))
        return
    if verify:
        show_faults(settings, recipe.verify(settings, repair=repair), repair=repair)
        if not repair:
            return
    follow_caching(recipe.CacheRun(settings, workers=parallel, resume=start, overwrite=overwrite))
