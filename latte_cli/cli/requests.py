"""Requests from the flags of `latte sample`, and checks of their combinations."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from latte_cli.core.errors import LatteError

if TYPE_CHECKING:
    from latte_cli.core.data.captions.prompts import PromptLine
    from latte_cli.core.sampling.spec import Request
    from latte_cli.core.settings.schema import Settings


def with_prompts(
    request: "Request",
    settings: "Settings",
    *,
    prompts: Sequence[str],
    prompts_file: Path | None,
    config: Path | None,
) -> "Request":
    """The request with the prompts of the flags, or else of the experiment.

    Raises typer.BadParameter for conflicting flags, LatteError if a prompt is missing.
    """
    given = bool(prompts or prompts_file)
    if settings.sample.pipeline is not None:
        if request.checkpoint is not None:
            raise typer.BadParameter("cannot be combined with --pipeline", param_hint="--checkpoint")
        return replace(request, prompts=_prompts(settings, prompts, prompts_file))
    _refuse_pipeline_flags(settings, request)
    if settings.model.condition == "text":
        return replace(request, prompts=_prompts(settings, prompts, prompts_file))
    if given:
        _refuse_prompts(settings, config)
    return request


def _refuse_pipeline_flags(settings: "Settings", request: "Request") -> None:
    """Reject flags that require a pipeline: a run samples clips as in training."""
    data = settings.data
    given = {
        "--num-frames": (request.num_frames, f"this run has data.num_frames {data.num_frames}"),
        "--height": (request.height, f"this run has data.image_size {data.image_size}"),
        "--width": (request.width, f"this run has data.image_size {data.image_size}"),
    }
    for flag, (value, reason) in given.items():
        if value is not None:
            raise typer.BadParameter(f"requires --pipeline; {reason}", param_hint=flag)


def _refuse_prompts(settings: "Settings", config: Path | None) -> None:
    """Raise LatteError with what prompts require: a text-conditional model, or a pipeline."""
    if config is not None:
        condition = settings.model.condition
        raise LatteError(
            f"--prompt: {config} has model.condition: {condition}, expected text; or give --pipeline DIR"
        )
    from latte_cli.core.models.pipeline.folder import open_pipeline

    open_pipeline(None)


def _prompts(settings: "Settings", prompts: Sequence[str], prompts_file: Path | None) -> "list[PromptLine]":
    """The prompts of the flags, or else of the experiment. Raises LatteError if there are none."""
    from latte_cli.core.data.captions.prompts import PromptLine, read_prompts

    lines = [PromptLine(text) for text in prompts]
    if prompts_file is not None:
        lines += read_prompts(prompts_file)
    lines = lines or [PromptLine(text) for text in settings.sample.prompts]
    if not lines:
        raise LatteError("--prompt: not given, expected a description of the clip; or --prompts-file FILE")
    return lines
