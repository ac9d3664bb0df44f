"""`latte sample` between its flags and its recipes: which of them is meant, and combinations that are not."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from latte_cli.cli.running import load, set_logging, show_files, stop_at_plan
from latte_cli.core.errors import LatteError

if TYPE_CHECKING:
    from latte_cli.core.data.captions.prompts import PromptLine
    from latte_cli.core.parallel.world import World
    from latte_cli.core.planning.plan import Plan
    from latte_cli.core.sampling.write import SampleReport
    from latte_cli.core.settings.schema import Settings


@dataclass(frozen=True)
class Asked:
    """The flags that are no settings."""

    checkpoint: Path | None = None
    prompts: Sequence[str] = ()
    prompts_file: Path | None = None
    lora: Path | None = None
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    initial_latents: Path | None = None
    formats: tuple[str, ...] | None = None
    out: Path | None = None
    parallel: int = 1


@dataclass(frozen=True)
class Work:
    """What a recipe would do, whichever it is."""

    settings: "Settings"
    plan: "Callable[[], Plan]"
    run: "Callable[[], Iterator[SampleReport]]"
    share: "Callable[[World], Iterator[SampleReport]]"


def sample(
    asked: Asked,
    config: Path | None,
    assignments: list[str] | None,
    flags: dict[str, Any],
    *,
    dry_run: bool,
    log_level: str,
) -> None:
    """Make the clips that were asked for, or show the plan."""
    if flags.get("sample.class_labels") and (asked.prompts or asked.prompts_file):
        raise typer.BadParameter(
            "goes with a model of classes, not with --prompt", param_hint="--class-label"
        )
    unset = ["sample.respacing"] if flags["sample.steps"] is not None else []  # it would override the flag
    given = [text.partition("=")[0].strip() for text in assignments or []]
    demo = flags["sample.pipeline"] is None and "sample.pipeline" not in given
    settings = load("sample", config, assignments, flags, log_level, unset=unset, demo=demo)
    if settings.sample.pipeline is None:
        work = _of_run(settings, asked, config)
    else:
        work = _of_pipeline(settings, asked)
    from latte_cli.cli.progress import follow, sampling_line
    from latte_cli.core.parallel.world import current_world

    world = current_world()
    if world.launcher is not None:  # one of the workers that --parallel started
        deque(follow(work.share(world), sampling_line), maxlen=0)
    elif not stop_at_plan(work.settings, work.plan(), dry_run=dry_run):
        show_files(work.run())


def replay(sidecar: Path, out: Path | None, *, dry_run: bool, log_level: str) -> None:
    """Make a clip again from the record beside it."""
    set_logging(log_level)
    if not sidecar.is_file():
        raise LatteError(f"--replay: {sidecar}: no such file, wanted the .json beside a sample")
    from latte_cli.core.recipes import sample, text_to_video
    from latte_cli.core.sampling.sidecar import read_record

    recipe = text_to_video if "pipeline" in read_record(sidecar, check=False) else sample
    if not stop_at_plan(None, recipe.replay_plan(sidecar, out=out), dry_run=dry_run):
        show_files(recipe.replay(sidecar, out=out))


def _of_pipeline(settings: "Settings", asked: Asked) -> Work:
    """Clips of prompts with a pipeline."""
    from latte_cli.core.planning.pipeline import pipeline_plan
    from latte_cli.core.recipes import text_to_video as recipe

    if asked.checkpoint is not None:
        raise typer.BadParameter("goes with a run, not with --pipeline", param_hint="--checkpoint")
    wish = recipe.Wish(
        prompts=_prompts(settings, asked),
        num_frames=asked.num_frames,
        height=asked.height,
        width=asked.width,
        lora=asked.lora,
        initial_latents=asked.initial_latents,
        formats=asked.formats,
        out=asked.out,
    )
    settings = recipe.resolved(settings, wish)
    return Work(
        settings,
        plan=lambda: pipeline_plan(
            recipe.job_of(settings, wish), recipe.target_of(settings, wish), workers=asked.parallel
        ),
        run=lambda: recipe.run(settings, wish, workers=asked.parallel),
        share=lambda world: recipe.run_share(settings, wish, world),
    )


def _of_run(settings: "Settings", asked: Asked, config: Path | None) -> Work:
    """Clips of a run's checkpoint."""
    from latte_cli.core.planning.decoding import add_decoding
    from latte_cli.core.planning.plan import sample_plan
    from latte_cli.core.planning.run_memory import add_memory
    from latte_cli.core.recipes import sample as recipe
    from latte_cli.core.sampling.write import DEFAULT_FORMATS, LATENTS

    _refuse_sizes(settings, asked)
    _refuse_prompts(settings, asked, config)
    prompts = _prompts(settings, asked) if settings.model.condition == "text" else []
    formats = asked.formats or DEFAULT_FORMATS

    def plan() -> "Plan":
        decodes = set(formats) != {LATENTS}
        found = sample_plan(
            settings, checkpoint=asked.checkpoint, decodes=decodes, prompts=prompts, out=asked.out
        )
        found.require("--initial-latents", asked.initial_latents)
        if decodes and not found.problems:
            data, vae = settings.data, settings.vae
            size = (data.image_size, data.image_size)
            add_decoding(found, vae.weights, frames=data.num_frames, size=size, asked=vae.chunk_frames)
        if not found.problems:
            add_memory(found, settings, decodes=decodes)
        return found

    return Work(
        settings,
        plan=plan,
        run=lambda: recipe.run(
            settings,
            checkpoint=asked.checkpoint,
            formats=formats,
            out=asked.out,
            initial_latents=asked.initial_latents,
            prompts=prompts,
            workers=asked.parallel,
        ),
        share=lambda world: recipe.run_share(settings, world, formats=formats, out=asked.out),
    )


def _refuse_sizes(settings: "Settings", asked: Asked) -> None:
    """Raise LatteError for what can be asked of a pipeline alone: a run draws as it was trained."""
    data = settings.data
    given = {
        "--lora": (asked.lora, "a run draws with the changes beside its checkpoint"),
        "--num-frames": (asked.num_frames, f"a run draws its data.num_frames, {data.num_frames}"),
        "--height": (asked.height, f"a run draws its data.image_size, {data.image_size}"),
        "--width": (asked.width, f"a run draws its data.image_size, {data.image_size}"),
    }
    for flag, (value, reason) in given.items():
        if value is not None:
            raise LatteError(f"{flag}: found {value}, wanted with --pipeline only: {reason}")


def _refuse_prompts(settings: "Settings", asked: Asked, config: Path | None) -> None:
    """Raise LatteError for prompts that nothing reads: what to download, or what the experiment is."""
    if not asked.prompts and asked.prompts_file is None:
        return
    if settings.model.condition == "text":
        return
    if config is not None:
        condition = settings.model.condition
        raise LatteError(
            f"--prompt: {config} has model.condition: {condition}, wanted text; or give --pipeline DIR"
        )
    from latte_cli.core.models.pipeline.folder import open_pipeline

    open_pipeline(None)


def _prompts(settings: "Settings", asked: Asked) -> "list[PromptLine]":
    """The prompts of the flags, else of the experiment. Raises LatteError when there are none."""
    from latte_cli.core.data.captions.prompts import PromptLine, read_prompts

    lines = [PromptLine(text) for text in asked.prompts]
    if asked.prompts_file is not None:
        lines += read_prompts(asked.prompts_file)
    lines = lines or [PromptLine(text) for text in settings.sample.prompts]
    if not lines:
        raise LatteError("--prompt: none was given, wanted what the clip shows; or --prompts-file FILE")
    return lines
