"""The Typer app: thin commands and the one error boundary. Heavy imports wait until they are needed."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from latte_cli import __version__, options
from latte_cli.core.errors import LatteError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from latte_cli.core.plan import Plan
    from latte_cli.core.recipes.sample import SampleReport
    from latte_cli.core.settings import Settings
    from latte_cli.core.settings_rules import Command

INTERRUPTED = 130  # 128 + SIGINT, as shells say


class _Boundary(typer.core.TyperGroup):
    """The one place that catches LatteError: one line on stderr, exit code 1. Ctrl-C is 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except LatteError as error:
            typer.echo(printable(str(error)), err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            typer.echo("interrupted", err=True)
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
    force: options.Force = False,
    config: options.Config = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    log_level: options.LogLevel = "warning",
) -> None:
    """Convert weights between the PyTorch originals' files and MindSpore's."""
    _set_logging(log_level)
    if config is not None or assignments:
        _load(None, config, assignments, {"device": device}, log_level)
    from latte_cli.core.recipes import convert as recipe
    from latte_cli.display import show_conversion

    done = recipe.run(
        source,
        target,
        kind=kind,
        weights=weights,
        dtype=dtype,
        to=to,
        report=report,
        force=force,
        dry_run=dry_run,
    )
    show_conversion(done, done=not dry_run)


@app.command()
def train(
    data: options.Data = None,
    cache: options.CacheDir = None,
    run_dir: options.RunDir = None,
    steps: options.TrainSteps = None,
    resume: options.Resume = None,
    allow_changes: options.AllowChanges = False,
    config: options.Config = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    log_level: options.LogLevel = "warning",
) -> None:
    """Train a Latte on videos, or on the latents that cache made."""
    flags = {
        "data.root": data,
        "cache.dir": cache,
        "run_dir": run_dir,
        "train.steps": steps,
        "device": device,
    }
    settings = _load("train", config, assignments, {**flags, "device": device}, log_level)
    from latte_cli.core.plan import train_plan

    if _stop_at_plan(settings, train_plan(settings), dry_run=dry_run):
        return
    from latte_cli.core.recipes import train as recipe
    from latte_cli.display import follow, show, training_line

    checkpoint: Path | Literal["auto"] | None = None
    if resume is not None:
        checkpoint = "auto" if resume == "auto" else Path(resume)
    for _ in follow(recipe.run(settings, resume=checkpoint, allow_changes=allow_changes), training_line):
        pass
    show(f"{settings.run_dir}\n")


@app.command()
def sample(
    checkpoint: options.Checkpoint = None,
    class_labels: options.ClassLabels = None,
    num_samples: options.NumSamples = None,
    sampler: options.Sampler = None,
    steps: options.SampleSteps = None,
    guidance_scale: options.GuidanceScale = None,
    seed: options.Seed = None,
    initial_latents: options.InitialLatents = None,
    formats: options.Formats = None,
    out: options.SampleOut = None,
    replay: options.Replay = None,
    run_dir: options.RunDir = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    log_level: options.LogLevel = "warning",
) -> None:
    """Make clips with a trained Latte."""
    if class_labels and num_samples is None:
        num_samples = len(class_labels)
    flags = {
        "sample.class_labels": class_labels or None,
        "sample.num_samples": num_samples,
        "sample.sampler": sampler,
        "sample.steps": steps,
        "sample.guidance_scale": guidance_scale,
        "sample.seed": seed,
        "run_dir": run_dir,
        "device": device,
    }
    if replay is not None:
        given = [checkpoint, initial_latents, formats, config, assignments, *flags.values()]
        alone = all(value is None for value in given)
        _replay(replay, out, alone=alone, dry_run=dry_run, log_level=log_level)
        return
    unset = ["sample.respacing"] if steps is not None else []  # it would override the flag
    settings = _load("sample", config, assignments, flags, log_level, unset=unset)
    from latte_cli.core.plan import sample_plan
    from latte_cli.core.recipes import sample as recipe

    written = recipe.DEFAULT_FORMATS if formats is None else tuple(wanted.value for wanted in formats)
    plan = sample_plan(settings, checkpoint=checkpoint, decodes=set(written) != {recipe.LATENTS})
    plan.require("--initial-latents", initial_latents)
    if not _stop_at_plan(settings, plan, dry_run=dry_run):
        _show_files(
            recipe.run(
                settings, checkpoint=checkpoint, formats=written, out=out, initial_latents=initial_latents
            )
        )


def _replay(sidecar: Path, out: Path | None, *, alone: bool, dry_run: bool, log_level: str) -> None:
    if not alone:
        raise typer.BadParameter("takes everything but --out from its file", param_hint="--replay")
    _set_logging(log_level)
    from latte_cli.core.recipes import sample as recipe

    if not sidecar.is_file():
        raise LatteError(f"--replay: {sidecar}: no such file, wanted the .json beside a sample")
    if not dry_run:
        _show_files(recipe.replay(sidecar, out=out))


def _show_files(reports: "Iterable[SampleReport]") -> None:
    """Follow sampling, and name each file once it is there."""
    from latte_cli.display import follow, sampling_line, show

    for report in follow(reports, sampling_line):
        for path in report.files:
            show(f"{path}\n")


def _set_logging(level: str) -> None:
    from latte_cli.display import LogHandler

    logging.basicConfig(level=level.upper(), handlers=[LogHandler()], force=True)
    if level in ("debug", "info"):
        os.environ.setdefault("GLOG_v", "1")  # MindSpore's C++ side: 1 is info


def _load(
    command: "Command | None",
    config: Path | None,
    assignments: list[str] | None,
    flags: dict[str, Any],
    log_level: str,
    *,
    unset: "Sequence[str]" = (),
) -> "Settings":
    """The settings of a command: the file, then --set in order, then the command's own flags."""
    _set_logging(log_level)
    from latte_cli.core.settings_io import load_settings, parse_override

    overrides = [parse_override(text) for text in assignments or []]
    overrides += [(name, None) for name in unset]
    overrides += [(name, _plain(value)) for name, value in flags.items() if value is not None]
    return load_settings(config, overrides, command=command)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _stop_at_plan(settings: "Settings", plan: "Plan", *, dry_run: bool) -> bool:
    """Whether it was a dry run, which shows the plan. Raises LatteError with what is missing or wrong."""
    if dry_run:
        from latte_cli.core.settings_io import dump_settings
        from latte_cli.display import show_plan

        show_plan(dump_settings(settings, explained=False), plan)
    plan.demand()
    return dry_run
