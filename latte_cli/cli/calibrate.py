"""`latte calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from latte_cli.cli import options
from latte_cli.cli.options import output_option, run_option
from latte_cli.cli.running import load, may_be_demo, planned
from latte_cli.cli.sampling_options import (
    GuidanceScale,
    Height,
    Lora,
    NumFrames,
    Pipeline,
    Prompts,
    SampleDtype,
    Sampler,
    SampleSteps,
    Seed,
    Width,
)

SAMPLES = 3  # clips, by default
EXAMPLES = (
    ("The newest checkpoint of a run, for 50 steps", "latte calibrate -c sky.yaml --steps 50"),
    ("25 or 16 full steps of 50, from five clips", "latte calibrate --steps 50 --budgets 25,16 --samples 5"),
    ("A pipeline, into a file", 'latte calibrate --pipeline Latte-1 --prompt "a dog" --out reuse.json'),
)

Samples = Annotated[
    int,
    run_option("--samples", metavar="N", min=1, help="Clips to measure on; with prompts, per prompt."),
]
Budgets = Annotated[
    str | None,
    run_option(
        "--budgets",
        metavar="N,N,...",
        help="Numbers of full steps to find schedules for. Default: a half and a third of the steps.",
    ),
]
CalibrateOut = Annotated[
    Path | None,
    output_option(
        "--out",
        metavar="FILE",
        help="File to write. Default: reuse.json in the run folder, or in the pipeline's.",
    ),
]


def calibrate(
    samples: Samples = SAMPLES,
    budgets: Budgets = None,
    pipeline: Pipeline = None,
    prompts: Prompts = None,
    checkpoint: options.Checkpoint = None,
    lora: Lora = None,
    dtype: SampleDtype = None,
    num_frames: NumFrames = None,
    height: Height = None,
    width: Width = None,
    sampler: Sampler = None,
    steps: SampleSteps = None,
    guidance_scale: GuidanceScale = None,
    seed: Seed = None,
    out: CalibrateOut = None,
    run_dir: options.RunDir = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    log_level: options.LogLevel = "warning",
) -> None:
    """Find the sampling steps to compute in full."""
    numbers = None if budgets is None else _numbers(budgets)
    flags = {
        "sample.num_samples": samples,
        "sample.pipeline": pipeline,
        "sample.dtype": dtype,
        "sample.sampler": sampler,
        "sample.steps": steps,
        "sample.guidance_scale": guidance_scale,
        "sample.seed": seed,
        "run_dir": run_dir,
        "device": device,
    }
    unset = ["sample.full_steps", *(["sample.respacing"] if steps is not None else [])]
    demo = may_be_demo(pipeline, assignments)
    settings = load("sample", config, assignments, flags, log_level, unset=unset, demo=demo)
    from latte_cli.cli.progress import follow
    from latte_cli.cli.requests import with_prompts
    from latte_cli.cli.tables import calibrate_line, show_calibration
    from latte_cli.core.recipes import calibrate as recipe
    from latte_cli.core.sampling.spec import Request

    request = Request(
        checkpoint=checkpoint, num_frames=num_frames, height=height, width=width, lora=lora or (), out=out
    )
    request = with_prompts(request, settings, prompts=prompts or (), prompts_file=None, config=config)
    prepared = planned(
        lambda hub: recipe.prepare(settings, request, hub, budgets=numbers or ()), dry_run=dry_run
    )
    if prepared is None:
        return
    job = prepared.job()
    *_, last = follow(job.run(), calibrate_line)
    show_calibration(last, job.out)


def _numbers(text: str) -> list[int]:
    """Whole numbers with commas between them. Raises typer.BadParameter for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"{text}: expected whole numbers, such as 25,16", param_hint="--budgets")
    return [int(part) for part in parts]
