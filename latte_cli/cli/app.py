"""The Typer app: thin commands and the one error boundary. Heavy imports wait until they are needed."""

from collections import deque
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from latte_cli import __version__
from latte_cli.cli import options
from latte_cli.cli import sample as sample_command
from latte_cli.cli.running import (
    INTERRUPTED,
    follow_caching,
    follow_share,
    load,
    set_logging,
    show_faults,
    stop_at_cache_plan,
    stop_at_plan,
)
from latte_cli.core.errors import LatteError, printable
from latte_cli.core.interrupts import stopped_by_sigterm
from latte_cli.core.parallel.leaving import own_exit_code


class _Boundary(typer.core.TyperGroup):
    """The one place that catches LatteError: one line on stderr, exit code 1. Ctrl-C and SIGTERM are 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            with stopped_by_sigterm():
                return super().invoke(ctx)
        except LatteError as error:
            from latte_cli.core.parallel.world import report_failure

            text = printable(str(error))
            if not report_failure(text):  # a worker's reason is for whoever launched it to show
                typer.echo(text, err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            typer.echo(str(error) or "interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    cls=_Boundary,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The `latte` command."""
    with own_exit_code():
        app(prog_name="latte")


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"latte {__version__}")
        raise typer.Exit


@app.callback()
def latte(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say it and exit.")
    ] = False,
) -> None:
    """Latte, the latent diffusion transformer for video, on MindSpore."""


@app.command()
def convert(
    source: options.Source,
    target: options.Target = None,
    kind: options.Kind = "auto",
    weights: options.Weights = None,
    dtype: options.TargetDtype = None,
    to: options.To = "mindspore",
    report: options.ReportFile = None,
    pipeline_from: options.PipelineFrom = None,
    force: options.Force = False,
    config: options.Config = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    log_level: options.LogLevel = "warning",
) -> None:
    """Turn published weights into MindSpore's files, or back."""
    set_logging(log_level)
    if config is not None or assignments:
        load(None, config, assignments, {"device": device}, log_level)
    from latte_cli.cli.progress import show_conversion
    from latte_cli.core.recipes import convert as recipe

    done = recipe.run(
        source,
        target,
        kind=kind,
        weights=weights,
        dtype=dtype,
        to=to,
        report=report,
        parts=pipeline_from,
        force=force,
        dry_run=dry_run,
    )
    show_conversion(done, done=not dry_run)


@app.command()
def cache(
    data: options.Data = None,
    out: options.CacheOut = None,
    kind: options.CacheType = None,
    resume: options.CacheResume = "auto",
    verify: options.Verify = False,
    repair: options.Repair = False,
    overwrite: options.Overwrite = False,
    parallel: options.Parallel = 1,
    config: options.Config = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    log_level: options.LogLevel = "warning",
) -> None:
    """Encode every video once, so that training reads latents."""
    if repair and not verify:
        raise typer.BadParameter("goes with --verify", param_hint="--repair")
    flags = {"data.root": data, "cache.dir": out, "cache.type": kind, "device": device}
    settings = load("cache", config, assignments, flags, log_level)
    start = None if resume == "auto" else int(resume)
    encodes = repair or not verify
    if stop_at_cache_plan(settings, encodes=encodes, start=start, overwrite=overwrite, dry_run=dry_run):
        return
    from latte_cli.core.data.latent_cache.writer import Status
    from latte_cli.core.parallel.world import current_world
    from latte_cli.core.recipes import cache as recipe

    world = current_world()
    if world.launcher is not None:  # one of the workers that --parallel started
        follow_share(recipe.run_share(settings, rank=world.rank, world=world.size))
        return
    if verify:
        show_faults(settings, recipe.verify(settings, repair=repair), mended=repair)
        if not repair:
            return
    status = Status()
    reports = recipe.run(settings, status=status, workers=parallel, resume=start, overwrite=overwrite)
    follow_caching(reports, status)


@app.command()
def train(
    data: options.Data = None,
    cache: options.CacheDir = None,
    run_dir: options.RunDir = None,
    steps: options.TrainSteps = None,
    resume: options.Resume = None,
    allow_changes: options.AllowChanges = False,
    parallel: options.Parallel = 1,
    nodes: options.Nodes = 1,
    node_rank: options.NodeRank = 0,
    master_addr: options.MasterAddr = "127.0.0.1",
    master_port: options.MasterPort = None,
    launcher: options.Launcher = "msrun",
    rank_table: options.RankTable = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    log_level: options.LogLevel = "warning",
) -> None:
    """Train a Latte on videos, or on the latents that cache made."""
    flags = {"data.root": data, "cache.dir": cache, "run_dir": run_dir, "train.steps": steps}
    settings = load("train", config, assignments, {**flags, "device": device}, log_level)
    from latte_cli.core.parallel.commands import Cluster, check_cluster
    from latte_cli.core.parallel.world import current_world
    from latte_cli.core.planning.plan import train_plan

    cluster = Cluster(parallel, nodes, node_rank, master_addr, master_port, launcher, rank_table)
    world = current_world()
    plan = train_plan(settings, workers=cluster.size if world.launcher is None else world.size)
    if world.launcher is None:
        plan.check(lambda: check_cluster(cluster))
    if stop_at_plan(settings, plan, dry_run=dry_run):
        return
    from latte_cli.cli.progress import follow, show, training_line
    from latte_cli.core.recipes import train as recipe

    checkpoint: Path | Literal["auto"] | None = None
    if resume is not None:
        checkpoint = "auto" if resume == "auto" else Path(resume)
    if world.launcher is None and cluster.size > 1:
        raise typer.Exit(recipe.run_parallel(settings, cluster, resume=checkpoint))
    reports = recipe.run(settings, resume=checkpoint, allow_changes=allow_changes)
    deque(follow(reports, training_line), maxlen=0)
    show(f"{settings.run_dir}\n")


@app.command()
def sample(
    prompts: options.Prompts = None,
    prompts_file: options.PromptsFile = None,
    negative_prompt: options.NegativePrompt = None,
    pipeline: options.Pipeline = None,
    lora: options.Lora = None,
    checkpoint: options.Checkpoint = None,
    class_labels: options.ClassLabels = None,
    num_samples: options.NumSamples = None,
    num_frames: options.NumFrames = None,
    height: options.Height = None,
    width: options.Width = None,
    sampler: options.Sampler = None,
    steps: options.SampleSteps = None,
    eta: options.Eta = None,
    guidance_scale: options.GuidanceScale = None,
    seed: options.Seed = None,
    dtype: options.SampleDtype = None,
    initial_latents: options.InitialLatents = None,
    formats: options.Formats = None,
    out: options.SampleOut = None,
    parallel: options.Parallel = 1,
    replay: options.Replay = None,
    run_dir: options.RunDir = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    log_level: options.LogLevel = "warning",
) -> None:
    """Make clips with a trained Latte, or from prompts with a text-to-video pipeline."""
    if class_labels and num_samples is None:
        num_samples = len(class_labels)
    flags = {
        "sample.class_labels": class_labels or None,
        "sample.num_samples": num_samples,
        "sample.sampler": sampler,
        "sample.steps": steps,
        "sample.eta": eta,
        "sample.guidance_scale": guidance_scale,
        "sample.negative_prompt": negative_prompt,
        "sample.pipeline": pipeline,
        "sample.dtype": dtype,
        "sample.seed": seed,
        "run_dir": run_dir,
        "device": device,
    }
    asked = sample_command.Asked(
        checkpoint=checkpoint,
        prompts=tuple(prompts or ()),
        prompts_file=prompts_file,
        lora=lora,
        num_frames=num_frames,
        height=height,
        width=width,
        initial_latents=initial_latents,
        formats=tuple(wanted.value for wanted in formats) if formats else None,
        out=None if replay is not None else out,
        parallel=parallel,
    )
    if replay is None:
        sample_command.sample(asked, config, assignments, flags, dry_run=dry_run, log_level=log_level)
    elif (
        asked != sample_command.Asked() or config or assignments or any(v is not None for v in flags.values())
    ):
        raise typer.BadParameter("takes everything but --out from its file", param_hint="--replay")
    else:
        sample_command.replay(replay, out, dry_run=dry_run, log_level=log_level)


@app.command()
def bench(
    rows: options.Rows = None,
    parallel: options.Cards = None,
    steps: options.BenchSteps = None,
    out: options.BenchOut = None,
    against: options.Against = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    log_level: options.LogLevel = "warning",
) -> None:
    """Measure training, encoding and sampling on this machine."""
    settings = load("bench", config, assignments, {"bench.steps": steps, "device": device}, log_level)
    from latte_cli.cli.progress import follow
    from latte_cli.cli.tables import bench_line, show_bench
    from latte_cli.core.bench.rows import parse_rows
    from latte_cli.core.recipes import bench as recipe

    wanted = parse_rows(rows or [], settings, cards=parallel or [])
    if stop_at_plan(settings, recipe.plan(settings, wanted, against=against), dry_run=dry_run):
        return
    *_, last = follow(recipe.run(settings, wanted, out=out, against=against), bench_line)
    show_bench(last.found or {})
