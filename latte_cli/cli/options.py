"""Options shared by several commands, and the headings that group options in help pages."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from latte_cli.core.checkpoints.lora import LoraUse

data_option = partial(typer.Option, rich_help_panel="Data")
model_option = partial(typer.Option, rich_help_panel="Model")
sampling_option = partial(typer.Option, rich_help_panel="Sampling")
run_option = partial(typer.Option, rich_help_panel="Run")
parallel_option = partial(typer.Option, rich_help_panel="Parallel")
output_option = partial(typer.Option, rich_help_panel="Output")


def _assignment(text: str) -> str:
    """A `--set` value, unchanged. Raises typer.BadParameter unless it is KEY.PATH=VALUE."""
    path, equals, _ = text.partition("=")
    if not equals or not all(part.strip() for part in path.split(".")):
        raise typer.BadParameter(f"{text}: expected KEY.PATH=VALUE, such as train.steps=100")
    return text


def experiment_names(incomplete: str) -> list[str]:
    """The shipped experiments that begin so, for the shell's completion; it completes files by itself."""
    from latte_cli.core.settings.shipped import shipped_names

    return [name for name in shipped_names() if name.startswith(incomplete)]


def lora_use(text: str) -> "LoraUse":
    """A `--lora` value. Raises typer.BadParameter for one without a file."""
    from latte_cli.core.checkpoints.lora import parse_use

    try:
        return parse_use(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _config(default: str) -> Any:
    return typer.Option(
        "-c",
        "--config",
        metavar="FILE",
        autocompletion=experiment_names,
        help=f"Experiment: a file, or the name of a shipped one. Default: {default}.",
    )


Config = Annotated[Path | None, _config("latte.yaml in the working directory, else the built-in demo")]
DemoConfig = Annotated[Path | None, _config("the built-in demo")]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY.PATH=VALUE",
        parser=_assignment,
        help="Change a setting of the experiment. Repeatable; applied in order.",
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "ascend", "gpu"] | None,
    typer.Option("--device", metavar="DEVICE", help="auto, cpu, ascend or gpu (device)."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, print the settings and the plan, and stop.")
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"],
    typer.Option("--log-level", metavar="LEVEL", help="Minimum log level: debug, info, warning or error."),
]

Data = Annotated[Path | None, data_option("--data", metavar="PATH", help="Folder of videos (data.root).")]
RunDir = Annotated[Path | None, output_option("--run-dir", metavar="DIR", help="Run folder (run_dir).")]
Checkpoint = Annotated[
    Path | None,
    model_option(
        "--checkpoint",
        metavar="PATH",
        help="Weights to sample from: a file, hf://OWNER/REPO/FILE, or best: the run's of the lowest"
        " validation loss. Default: the newest.",
    ),
]
Parallel = Annotated[
    int,
    parallel_option("--parallel", metavar="N", min=1, max=1024, help="Number of workers on this machine."),
]
