"""Standard streams that are closed or only accept ASCII."""

import subprocess
import sys

import pytest

COMMAND = f"{sys.executable} -m latte_cli configs"


def bash(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)


def test_characters_that_stdout_cannot_encode_are_escaped() -> None:
    opened = "from latte_cli.cli.boundary import open_standard_streams as start; start()"
    program = f"{opened}; print('vid\\xe9os')"
    done = bash(f'PYTHONIOENCODING=ascii {sys.executable} -c "{program}"')
    assert (done.stdout, done.stderr) == ("vid\\xe9os\n", "")


def test_closed_streams_do_not_end_a_command() -> None:
    done = bash(f"{COMMAND} <&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("arguments", ["configs", "--version", "configs --help"])
def test_a_full_stdout_gives_a_one_line_error(arguments: str) -> None:
    done = bash(f"unset PYTHONUNBUFFERED; {sys.executable} -m latte_cli {arguments} > /dev/full")
    assert (done.returncode, done.stderr) == (1, "No space left on device\n")
