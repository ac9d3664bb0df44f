"""`latte sample`."""

from collections import deque
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from latte_cli.cli import options
from latte_cli.cli.options import output_option, sampling_option
from latte_cli.cli.running import load, may_be_demo, planned, set_logging, show_files
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

EXAMPLES = (
    ("Three clips from the newest checkpoint of a run", "latte sample -c sky.yaml --num-samples 3"),
    ("Text to video with a pipeline folder", 'latte sample --pipeline Latte-1 --prompt "a dog in the snow"'),
    (
        "Two classes, with guidance",
        "latte sample -c ucf101.yaml --class-label 3 --class-label 8",
    ),
    ("Faster: half of the steps computed in full", "latte sample -c sky.yaml --steps 50 --full-steps 25"),
    ("The same bytes again", "latte sample --replay runs/sky/samples/000.json --out again"),
)


class Format(str, Enum):
    """The file formats of a sampled clip."""

    mp4 = "mp4"
    gif = "gif"
    png = "png"
    latents = "latents"


PromptsFile = Annotated[
    Path | None,
    sampling_option(
        "--prompts-file",
        metavar="FILE",
        help="One prompt per line; a line may end with --seed N, --steps N, --guidance-scale X.",
    ),
]
NegativePrompt = Annotated[
    str | None,
    sampling_option(
        "--negative-prompt",
        metavar="TEXT",
        help="Description to steer away from (sample.negative_prompt).",
    ),
]
Eta = Annotated[
    float | None,
    sampling_option("--eta", metavar="X", help="Noise added in each ddim step, from 0 to 1 (sample.eta)."),
]
ClassLabels = Annotated[
    list[int] | None,
    sampling_option("--class-label", metavar="N", help="Class of a clip. Repeatable (sample.class_labels)."),
]
NumSamples = Annotated[
    int | None,
    sampling_option(
        "--num-samples",
        metavar="N",
        help="Number of clips; with prompts, per prompt (sample.num_samples).",
    ),
]
GuidanceEvery = Annotated[
    int | None,
    sampling_option(
        "--guidance-every",
        metavar="K",
        help="Compute the unconditional branch in one of K full steps (sample.guidance_every).",
    ),
]
FullSteps = Annotated[
    int | None,
    sampling_option(
        "--full-steps",
        metavar="N",
        help="Compute the transformer's blocks in N of the steps (sample.full_steps). Default: all.",
    ),
]
Reuse = Annotated[
    str | None,
    sampling_option(
        "--reuse",
        metavar="FILE",
        help="What chooses the full steps: a file of latte calibrate, or even (sample.reuse). Default:"
        " reuse.json of the run or the pipeline, else even.",
    ),
]
InitialLatents = Annotated[
    Path | None,
    sampling_option(
        "--initial-latents",
        metavar="FILE",
        help="Initial noise: a .npy file of shape (N, F, 4, h, w).",
    ),
]
Formats = Annotated[
    list[Format] | None,
    output_option(
        "--format", metavar="FORMAT", help="mp4, gif, png or latents. Repeatable. Default: mp4 and png."
    ),
]
SampleOut = Annotated[
    Path | None,
    output_option("--out", metavar="DIR", help="Folder for the clips. Default: samples/ in the run folder."),
]
Replay = Annotated[
    Path | None,
    sampling_option(
        "--replay", metavar="FILE", help="Reproduce a clip exactly from the .json file next to it."
    ),
]


def sample(
    prompts: Prompts = None,
    prompts_file: PromptsFile = None,
    negative_prompt: NegativePrompt = None,
    pipeline: Pipeline = None,
    lora: Lora = None,
    checkpoint: options.Checkpoint = None,
    class_labels: ClassLabels = None,
    num_samples: NumSamples = None,
    num_frames: NumFrames = None,
    height: Height = None,
    width: Width = None,
    sampler: Sampler = None,
    steps: SampleSteps = None,
    eta: Eta = None,
    guidance_scale: GuidanceScale = None,
    guidance_every: GuidanceEvery = None,
    full_steps: FullSteps = None,
    reuse: Reuse = None,
    seed: Seed = None,
    dtype: SampleDtype = None,
    initial_latents: InitialLatents = None,
    formats: Formats = None,
    out: SampleOut = None,
    parallel: options.Parallel = 1,
    replay: Replay = None,
    run_dir: options.RunDir = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    log_level: options.LogLevel = "warning",
) -> None:
    """Sample clips from a run, or from prompts."""
    if class_labels and num_samples is None:
        num_samples = len(class_labels)
    flags = {
        "sample.class_labels": class_labels or None,
        "sample.num_samples": num_samples,
        "sample.sampler": sampler,
        "sample.steps": steps,
        "sample.eta": eta,
        "sample.guidance_scale": guidance_scale,
        "sample.guidance_every": guidance_every,
        "sample.full_steps": full_steps,
        "sample.reuse": reuse,
        "sample.negative_prompt": negative_prompt,
        "sample.pipeline": pipeline,
        "sample.dtype": dtype,
        "sample.seed": seed,
        "run_dir": run_dir,
        "device": device,
    }
    if replay is not None:
        others: list[object] = [
            *flags.values(),
            checkpoint,
            lora,
            num_frames,
            height,
            width,
            initial_latents,
            formats,
        ]
        others += [prompts, prompts_file, config, assignments]
        if parallel != 1 or any(value for value in others):
            raise typer.BadParameter("can only be combined with --out", param_hint="--replay")
        set_logging(log_level)
        from latte_cli.core.recipes import sample as recipe

        prepared = planned(lambda hub: recipe.prepare_replay(replay, hub, out=out), dry_run=dry_run)
    else:
        if class_labels and (prompts or prompts_file):
            raise typer.BadParameter("cannot be combined with --prompt", param_hint="--class-label")
        unset = ["sample.respacing"] if steps is not None else []  # otherwise it would override the flag
        demo = may_be_demo(pipeline, assignments)
        settings = load("sample", config, assignments, flags, log_level, unset=unset, demo=demo)
        from latte_cli.cli.progress import follow, sampling_line
        from latte_cli.cli.requests import with_prompts
        from latte_cli.core.parallel.world import current_world
        from latte_cli.core.recipes import sample as recipe
        from latte_cli.core.sampling.spec import Request

        request = Request(
            checkpoint=checkpoint,
            num_frames=num_frames,
            height=height,
            width=width,
            lora=lora or (),
            initial_latents=initial_latents,
            formats=tuple(one.value for one in formats) if formats else None,
            out=out,
        )
        request = with_prompts(
            request, settings, prompts=prompts or (), prompts_file=prompts_file, config=config
        )
        world = current_world()
        if world.launcher is not None:  # one of the workers that --parallel started
            deque(follow(recipe.share(settings, request, world), sampling_line), maxlen=0)
            return
        prepared = planned(
            lambda hub: recipe.prepare(settings, request, hub, workers=parallel), dry_run=dry_run
        )
    if prepared is not None:
        show_files(prepared.job().run(workers=parallel))
