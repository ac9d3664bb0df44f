"""Where every command ends: what a user can fix as one line, and the exit code."""

import io
import os
import sys
from contextlib import suppress
from typing import Any, NoReturn

import typer

from latte_cli.core.errors import LatteError, printable, system_fault
from latte_cli.core.interrupts import stopped_by_signals

INTERRUPTED = 130  # 128 + SIGINT, as shells say


class Boundary(typer.core.TyperGroup):
    """The one place that catches LatteError: one line on stderr, exit code 1. A request to stop is 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            with stopped_by_signals():
                return super().invoke(ctx)
        except LatteError as error:
            self._fail(str(error), error)
        except OSError as error:
            text = system_fault(error)
            if text is None:
                raise
            self._fail(text, error)
        except KeyboardInterrupt as error:
            complain(str(error) or "interrupted")
            raise typer.Exit(INTERRUPTED) from error

    @staticmethod
    def _fail(reason: str, error: Exception) -> NoReturn:
        """End with a line; a worker's is for whoever launched it to show."""
        from latte_cli.core.parallel.world import report_failure

        text = printable(reason)
        if not report_failure(text):
            complain(text)
        raise typer.Exit(1) from error


def complain(text: str) -> None:
    """A line on stderr; what ends the command counts, not that its terminal may be gone."""
    with suppress(OSError, ValueError):
        typer.echo(text, err=True)


def open_standard_streams() -> None:
    """Point those that are closed at nothing, since a file that took their number would be written into; and
    have stdout escape letters that its encoding lacks, as stderr does."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # 0, 1, 2: an open takes the least
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (to the end)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
