"""The command line's options, each said once; the first five are every command's."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import typer


class Format(str, Enum):
    """What a sampled clip is written as."""

    mp4 = "mp4"
    gif = "gif"
    png = "png"
    latents = "latents"


def _assignment(text: str) -> str:
    """A `--set` value as it was typed. Raises typer.BadParameter when it is no KEY.PATH=VALUE."""
    path, equals, _ = text.partition("=")
    if not equals or not all(part.strip() for part in path.split(".")):
        raise typer.BadParameter(f"{text}: wanted KEY.PATH=VALUE, such as train.steps=100")
    return text


def _place(text: str) -> str:
    """auto, or a video's number. Raises typer.BadParameter for anything else."""
    if text != "auto" and not text.isdecimal():
        raise typer.BadParameter(f"{text}: wanted auto, or the number of a video, from 0")
    return text


Config = Annotated[
    Path | None,
    typer.Option("-c", "--config", help="Experiment file; else latte.yaml here, else the built-in demo."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY.PATH=VALUE", parser=_assignment, help="Change a setting; in order, repeatable."
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "ascend", "gpu"] | None, typer.Option("--device", help="Where MindSpore runs.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, print the settings and the plan, do nothing.")
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"], typer.Option("--log-level", help="What is worth a line.")
]

Data = Annotated[Path | None, typer.Option("--data", help="Folder of videos (data.root).")]
RunDir = Annotated[Path | None, typer.Option("--run-dir", help="Everything about the run (run_dir).")]

Source = Annotated[
    Path,
    typer.Option("--source", help="A .pt, .pth, .bin, .ckpt or .safetensors file, or a diffusers folder."),
]
Target = Annotated[
    Path | None, typer.Option("--target", help="File to write; else beside the source, the same stem.")
]
Kind = Annotated[
    Literal["auto", "latte", "vae", "t2v"], typer.Option("--kind", help="What the weights are of.")
]
Weights = Annotated[
    Literal["ema", "model"] | None, typer.Option("--weights", help="Which set of a training checkpoint.")
]
TargetDtype = Annotated[
    Literal["float32", "float16", "bfloat16"] | None, typer.Option("--dtype", help="How to store them.")
]
To = Annotated[Literal["mindspore", "torch"], typer.Option("--to", help="Whose file to write.")]
ReportFile = Annotated[Path | None, typer.Option("--report", help="Also write what was done, as JSON.")]
PipelineFrom = Annotated[
    Path | None,
    typer.Option(
        "--pipeline-from",
        metavar="DIR",
        help="Text encoder, tokenizer and autoencoder to make a pipeline folder with, as --target.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing target.")]

CacheOut = Annotated[Path | None, typer.Option("--out", help="Folder for the latents (cache.dir).")]
CacheType = Annotated[
    Literal["numpy", "mindrecord"] | None, typer.Option("--type", help="How they are stored (cache.type).")
]
CacheResume = Annotated[
    str,
    typer.Option(
        "--resume", metavar="auto|N", parser=_place, help="Skip what is whole; or start at video N."
    ),
]
Verify = Annotated[bool, typer.Option("--verify", help="Check every entry; encode nothing.")]
Repair = Annotated[
    bool, typer.Option("--repair", help="With --verify: strike faulty entries off, to be encoded anew.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Encode everything anew.")]

Parallel = Annotated[int, typer.Option("--parallel", min=1, help="Workers on this machine.")]

Nodes = Annotated[int, typer.Option("--nodes", min=1, help="Machines, each with --parallel workers.")]
NodeRank = Annotated[int, typer.Option("--node-rank", min=0, help="Which machine this is, from 0.")]
MasterAddr = Annotated[str, typer.Option("--master-addr", metavar="HOST", help="Machine 0, for --nodes.")]
MasterPort = Annotated[
    int | None, typer.Option("--master-port", metavar="PORT", help="Where workers meet on machine 0.")
]
Launcher = Annotated[Literal["msrun", "mpirun"], typer.Option("--launcher", help="What starts the workers.")]
RankTable = Annotated[
    Path | None, typer.Option("--rank-table", metavar="FILE", help="Ascend's table of machines and devices.")
]

CacheDir = Annotated[Path | None, typer.Option("--cache", help="Train on cached latents (cache.dir).")]
TrainSteps = Annotated[int | None, typer.Option("--steps", help="Optimizer steps (train.steps).")]
Resume = Annotated[
    str | None,
    typer.Option("--resume", metavar="auto|PATH", help="Go on from the newest checkpoint, or that."),
]
AllowChanges = Annotated[
    bool, typer.Option("--allow-changes", help="Go on although settings or videos have changed.")
]

Prompts = Annotated[
    list[str] | None, typer.Option("--prompt", metavar="TEXT", help="What a clip shows; repeatable.")
]
PromptsFile = Annotated[
    Path | None,
    typer.Option(
        "--prompts-file", help="A prompt a line, which may end in --seed N, --steps N, --guidance-scale X."
    ),
]
NegativePrompt = Annotated[
    str | None,
    typer.Option(
        "--negative-prompt", metavar="TEXT", help="What guidance leads away from (sample.negative_prompt)."
    ),
]
Pipeline = Annotated[
    Path | None,
    typer.Option("--pipeline", metavar="DIR", help="A text-to-video pipeline, as Latte-1 (sample.pipeline)."),
]
Lora = Annotated[
    Path | None, typer.Option("--lora", help="Low-rank changes of the pipeline's transformer, .safetensors.")
]
NumFrames = Annotated[
    int | None,
    typer.Option("--num-frames", min=1, help="Of a pipeline's clip, else as it was trained; 1 is an image."),
]
Height = Annotated[
    int | None, typer.Option("--height", min=8, help="Of a pipeline's frames in pixels, else as trained.")
]
Width = Annotated[
    int | None, typer.Option("--width", min=8, help="Of a pipeline's frames in pixels, else as trained.")
]
Eta = Annotated[float | None, typer.Option("--eta", help="Fresh noise of a ddim step, 0 to 1 (sample.eta).")]
SampleDtype = Annotated[
    Literal["float32", "float16", "bfloat16"] | None,
    typer.Option("--dtype", help="Of a pipeline's weights in memory (sample.dtype)."),
]

Checkpoint = Annotated[
    Path | None, typer.Option("--checkpoint", help="Weights; else the newest of the run folder.")
]
ClassLabels = Annotated[
    list[int] | None, typer.Option("--class-label", help="Class to show; repeatable (sample.class_labels).")
]
NumSamples = Annotated[
    int | None,
    typer.Option("--num-samples", help="Clips to make; with prompts, of each (sample.num_samples)."),
]
Sampler = Annotated[
    Literal["ddpm", "ddim", "dpm++"] | None,
    typer.Option("--sampler", help="The method; else a pipeline's own (sample.sampler)."),
]
SampleSteps = Annotated[
    int | None, typer.Option("--steps", help="Sampling steps (sample.steps, without sample.respacing).")
]
GuidanceScale = Annotated[
    float | None, typer.Option("--guidance-scale", help="Classifier-free guidance (sample.guidance_scale).")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Of the first clip (sample.seed).")]
InitialLatents = Annotated[
    Path | None, typer.Option("--initial-latents", help="Noise to start from: .npy of (N, F, 4, h, w).")
]
Formats = Annotated[
    list[Format] | None,
    typer.Option("--format", help="What to write; repeatable."),
]
SampleOut = Annotated[
    Path | None, typer.Option("--out", help="Folder for the clips; else samples/ of the run folder.")
]
Replay = Annotated[
    Path | None, typer.Option("--replay", help="Make a clip again from its .json: the same bytes.")
]

Rows = Annotated[
    list[str] | None,
    typer.Option(
        "--row",
        metavar="SPEC",
        help="A row of the table, as recompute=off,sink=off,cache=on,batch=4,frames=16: what is left out is"
        " the experiment's. Repeatable; else the usual rows.",
    ),
]
Cards = Annotated[
    list[int] | None, typer.Option("--parallel", min=1, help="Workers for each row; repeatable.")
]
BenchSteps = Annotated[int | None, typer.Option("--steps", help="Counted steps a row (bench.steps).")]
BenchOut = Annotated[
    Path | None, typer.Option("--out", help="Also write it all as JSON, and a chart beside it as .png.")
]
Against = Annotated[Path | None, typer.Option("--compare", help="An earlier --out, to give the ratios to.")]
