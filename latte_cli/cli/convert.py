"""`latte convert`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from latte_cli.cli import options
from latte_cli.cli.options import lora_use, model_option, output_option
from latte_cli.cli.running import fetching_hub, load, set_logging
from latte_cli.core.errors import one_line

EXAMPLES = (
    (
        "Convert published weights into skytimelapse.ckpt",
        "latte convert --source skytimelapse.pt",
    ),
    ("Write what the PyTorch original loads", "latte convert --source runs/sky/ckpt/10000.ckpt --to torch"),
    ("See what a file contains without writing anything", "latte convert --source x.safetensors --dry-run"),
)

Source = Annotated[
    Path,
    model_option(
        "--source",
        metavar="PATH",
        help="Weights to convert: a .pt, .pth, .bin, .ckpt or .safetensors file, a diffusers folder, or"
        " hf://OWNER/REPO/FILE.",
    ),
]
Target = Annotated[
    Path | None,
    output_option(
        "--target", metavar="PATH", help="File to write. Default: next to the source, with the same stem."
    ),
]
Kind = Annotated[
    Literal["auto", "latte", "vae", "t2v"],
    model_option("--kind", help="Type of model in the checkpoint."),
]
Weights = Annotated[
    Literal["ema", "model"] | None,
    model_option(
        "--weights",
        help="Weights of a training checkpoint: ema (averaged) or model (raw). Default: ema if present.",
    ),
]
TargetDtype = Annotated[
    Literal["float32", "float16", "bfloat16"] | None,
    output_option("--dtype", help="Type of the stored numbers. Default: unchanged."),
]
To = Annotated[Literal["mindspore", "torch"], output_option("--to", help="Target framework.")]
ReportFile = Annotated[
    Path | None,
    output_option(
        "--report", metavar="FILE", help="Also write the converted, renamed and ignored tensors as JSON."
    ),
]
PipelineFrom = Annotated[
    Path | None,
    model_option(
        "--pipeline-from",
        metavar="DIR",
        help="Write a pipeline folder with the text encoder, tokenizer and autoencoder of this one.",
    ),
]
MergeLora = Annotated[
    list[Any] | None,
    model_option(
        "--merge-lora",
        metavar="FILE[:STRENGTH]",
        parser=lora_use,
        help="LoRA weights to merge into the source, which may be a pipeline folder. Repeatable.",
    ),
]
Force = Annotated[bool, output_option("--force", help="Replace an existing target.")]


def convert(
    source: Source,
    target: Target = None,
    kind: Kind = "auto",
    weights: Weights = None,
    dtype: TargetDtype = None,
    to: To = "mindspore",
    report: ReportFile = None,
    pipeline_from: PipelineFrom = None,
    merge_lora: MergeLora = None,
    force: Force = False,
    config: options.Config = None,
    assignments: options.Assignments = None,
    device: options.Device = None,
    dry_run: options.DryRun = False,
    log_level: options.LogLevel = "warning",
) -> None:
    """Convert weights between PyTorch and MindSpore."""
    set_logging(log_level)
    if config is not None or assignments:
        load(None, config, assignments, {"device": device}, log_level)
    from latte_cli.cli.progress import show, show_conversion
    from latte_cli.core.checkpoints.published import Hub, local_lora
    from latte_cli.core.planning.planned import absent_rows
    from latte_cli.core.recipes import convert as recipe

    hub = Hub(asks=True) if dry_run else fetching_hub()
    source = hub.local(source, recipe.source_parts(kind, merges=bool(merge_lora)))
    lora = local_lora(merge_lora or (), hub)
    if pipeline_from is not None:
        pipeline_from = hub.local(pipeline_from, recipe.PIPELINE_PARTS)
    if hub.absent:
        show("".join(f"{name:<12}{one_line(text)}\n" for name, text in absent_rows(hub)))
        return
    done = recipe.run(
        source,
        target,
        kind=kind,
        weights=weights,
        dtype=dtype,
        to=to,
        report=report,
        parts=pipeline_from,
        lora=lora,
        force=force,
        dry_run=dry_run,
    )
    show_conversion(done, done=not dry_run)
