"""The error boundary of all commands: one-line errors and exit codes."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import typer
from click.exceptions import Abort, ClickException, Exit

from latte_cli.core.errors import LatteError, one_line, system_fault
from latte_cli.core.machine.interrupts import exit_code, stopped_by_signals, was_interrupted


class Boundary(typer.core.TyperGroup):
    """Catches LatteError: one line on stderr, exit code 1. Stop signals exit with 128 + their
    number, as in shells: 130 for Ctrl-C."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, and print the version, a help page or the completion if they ask for it."""
        with self._caught():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        with self._caught(), stopped_by_signals():
            return super().invoke(ctx)

    @contextmanager
    def _caught(self) -> Iterator[None]:
        try:
            yield
        except LatteError as error:
            self._fail(error.shown(), error)
        except OSError as error:
            text = system_fault(error)
            if text is None:
                raise
            self._fail(one_line(text), error)
        except KeyboardInterrupt as error:
            complain(str(error) or "interrupted")
            raise typer.Exit(exit_code()) from error
        except Exception as error:
            if isinstance(error, ClickException | Exit | Abort) or not was_interrupted():
                raise
            complain("interrupted")
            raise typer.Exit(exit_code()) from error

    @staticmethod
    def _fail(text: str, error: Exception) -> NoReturn:
        """Exit with an error message; for a worker, the launching process shows it."""
        from latte_cli.core.parallel.world import report_failure

        _drop_unwritten()
        if not report_failure(text):
            complain(text)
        raise typer.Exit(1) from error


def complain(text: str) -> None:
    """Print a line to stderr; ignored if the terminal is gone."""
    with suppress(OSError, ValueError):
        typer.echo(text, err=True)


def _drop_unwritten() -> None:
    """Drop what stdout cannot take, as on a full disk: at exit Python would try again, and complain."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def use_utf8() -> None:
    """Start again in Python's UTF-8 mode if names of files are ASCII, as in a locale C without Python's own
    remedy: names with other letters could not be written to settings, caches and reports."""
    if sys.getfilesystemencoding() == "ascii":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def open_standard_streams() -> None:
    """Redirect closed streams to the null device, so that no opened file gets their number and is written to;
    and make stdout escape characters that its encoding lacks, like stderr."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # 0, 1, 2: open uses the lowest
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (to the end)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
