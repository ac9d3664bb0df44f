"""The options that `latte sample` and `latte calibrate` share."""

from pathlib import Path
from typing import Annotated, Any, Literal

from latte_cli.cli.options import lora_use, model_option, sampling_option

Prompts = Annotated[
    list[str] | None,
    sampling_option("--prompt", metavar="TEXT", help="Description of the clip. Repeatable."),
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
SampleDtype = Annotated[
    Literal["float32", "float16", "bfloat16"] | None,
    model_option("--dtype", help="Type of a pipeline's weights in memory (sample.dtype)."),
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
Seed = Annotated[
    int | None,
    sampling_option(
        "--seed", metavar="N", help="Seed of the first clip; increases by 1 per clip (sample.seed)."
    ),
]
