"""Errors after a stop signal."""

import signal

import pytest
import typer
from typer.testing import CliRunner

from latte_cli.cli.boundary import Boundary

app = typer.Typer(cls=Boundary, pretty_exceptions_enable=False)


@app.command()
def interrupted() -> None:
    """Be interrupted in C code, which raises an error of its own."""
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt as error:
        raise ImportError("initialization failed") from error


@app.command()
def broken() -> None:
    """Fail."""
    raise ImportError("initialization failed")


def test_an_error_that_a_stop_signal_caused_is_an_interruption() -> None:
    result = CliRunner().invoke(app, ["interrupted"], catch_exceptions=False)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def test_any_other_error_is_not() -> None:
    CliRunner().invoke(app, ["interrupted"])
    with pytest.raises(ImportError):
        CliRunner().invoke(app, ["broken"], catch_exceptions=False)
