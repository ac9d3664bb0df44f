"""The Typer app and its commands. Heavy imports are deferred."""

import gc
from typing import Annotated

import typer

from latte_cli import __version__
from latte_cli.cli import bench, cache, calibrate, configs, convert, demo, doctor, evaluate, sample, train
from latte_cli.cli.boundary import Boundary, open_standard_streams, use_utf8
from latte_cli.cli.help import Command, examples
from latte_cli.core.parallel.shutdown import own_exit_code

ALLOCATIONS = 50_000  # between two collections: with the default of 700, a tenth of importing is collecting

app = typer.Typer(
    cls=Boundary,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The `latte` command."""
    gc.set_threshold(ALLOCATIONS)
    use_utf8()
    open_standard_streams()
    with own_exit_code():
        app(prog_name="latte")


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"latte {__version__}")
        raise typer.Exit


_Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
]


@app.callback()
def latte(version: _Version = False) -> None:
    """Latte, the latent diffusion transformer for video, on MindSpore."""


for module in (demo, configs, doctor, convert, cache, train, calibrate, sample, evaluate, bench):
    name = module.__name__.rpartition(".")[2]
    app.command(name, cls=Command, epilog=examples(*module.EXAMPLES))(getattr(module, name))
