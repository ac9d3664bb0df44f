"""`latte sample`."""

from collections import deque
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from latte_cli.cli import options
from latte_cli.cli.options import lora_use, model_option, output_option, sampling_option
from latte_cli.cli.running import load, planned, set_logging, show_files

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


Prompts = Annotated[
    list[str] | None,
    sampling_option("--prompt", metavar="TEXT", help="Description of the clip. Repeatable."),
]
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
Pipeline = Annotated[
    Path | None,
    model_option(
        "--pipeline",
        metavar="DIR",
        help="Text-to-video pipeline: a folder, or hf://maxin-cn/Latte-1 (sample.pipeline).",
    ),
]
Lora = Annotated[
    list[Any] | None,
    model_option(
        "--lora",
        metavar="FILE[:STRENGTH]",
        parser=lora_use,
        help="LoRA weights for the transformer: a file, or a folder written by peft. Repeatable. Default"
        " strength: 1.",
    ),
]
NumFrames = Annotated[
    int | None,
    sampling_option(
        "--num-frames",
        metavar="N",
        min=1,
        help="Frames of a pipeline's clip; 1 for an image. Default: as trained.",
    ),
]
Height = Annotated[
    int | None,
    sampling_option(
        "--height",
        metavar="N",
        min=8,
        help="Height of a pipeline's frames in pixels. Default: as trained.",
    ),
]
Width = Annotated[
    int | None,
    sampling_option(
        "--width",
        metavar="N",
        min=8,
        help="Width of a pipeline's frames in pixels. Default: as trained.",
    ),
]
Eta = Annotated[
    float | None,
    sampling_option("--eta", metavar="X", help="Noise added in each ddim step, from 0 to 1 (sample.eta)."),
]
SampleDtype = Annotated[
    Literal["float32", "float16", "bfloat16"] | None,
    model_option("--dtype", help="Type of a pipeline's weights in memory (sample.dtype)."),
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
Sampler = Annotated[
    Literal["ddpm", "ddim", "dpm++"] | None,
    sampling_option(
        "--sampler",
        help="Sampler (sample.sampler). Default for a pipeline: its own scheduler.",
    ),
]
SampleSteps = Annotated[
    int | None,
    sampling_option(
        "--steps",
        metavar="N",
        help="Number of sampling steps (sample.steps). Overrides sample.respacing.",
    ),
]
GuidanceScale = Annotated[
    float | None,
    sampling_option(
        "--guidance-scale",
        metavar="X",
        help="Classifier-free guidance scale; 1 for none (sample.guidance_scale).",
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
Seed = Annotated[
    int | None,
    sampling_option(
        "--seed", metavar="N", help="Seed of the first clip; increases by 1 per clip (sample.seed)."
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
        named = any(text.partition("=")[0].strip() == "sample.pipeline" for text in assignments or ())
        demo = pipeline is None and not named
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
