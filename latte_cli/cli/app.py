"""The Typer app: its commands, and the one place that catches errors. Heavy imports wait until needed."""

from typing import Annotated, Any

import typer

from latte_cli import __version__
from latte_cli.cli import bench, cache, convert, sample, train
from latte_cli.cli.help import Command, examples
from latte_cli.cli.running import INTERRUPTED
from latte_cli.core.errors import LatteError, printable
from latte_cli.core.interrupts import stopped_by_sigterm
from latte_cli.core.parallel.leaving import own_exit_code


class _Boundary(typer.core.TyperGroup):
    """The one place that catches LatteError: one line on stderr, exit code 1. Ctrl-C and SIGTERM are 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            with stopped_by_sigterm():
                return super().invoke(ctx)
        except LatteError as error:
            from latte_cli.core.parallel.world import report_failure

            text = printable(str(error))
            if not report_failure(text):  # a worker's reason is for whoever launched it to show
                typer.echo(text, err=True)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            typer.echo(str(error) or "interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    cls=_Boundary,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The `latte` command."""
    with own_exit_code():
        app(prog_name="latte")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"latte {__version__}")
        raise typer.Exit


_Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
]


@app.callback()
def latte(version: _Version = False) -> None:
    """Latte, the latent diffusion transformer for video, on MindSpore."""


for module in (convert, cache, train, sample, bench):
    name = module.__name__.rpartition(".")[2]
    app.command(name, cls=Command, epilog=examples(*module.EXAMPLES))(getattr(module, name))
