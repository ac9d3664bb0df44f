"""File names with line breaks, emoji, brackets and escapes, and terminals that only show ASCII."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from latte_cli.cli.app import app
from latte_cli.core.errors import LatteError, one_line

NAME = "a\nb\N{CAT FACE}[red]c[/red]\x1b[31m"
SHOWN = "a\\nb\N{CAT FACE}[red]c[/red]\\x1b[31m"
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "COLUMNS": "20", "TERM": "dumb"}


def test_a_name_with_a_line_break_cannot_add_a_line_to_an_error() -> None:
    assert one_line(NAME) == SHOWN
    assert LatteError("2 problems", NAME, "second").shown() == f"2 problems\n  {SHOWN}\n  second"
    assert str(LatteError("2 problems", "first", "second")) == "2 problems\n  first\n  second"


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "--source", NAME],
        ["train", "-c", NAME],
        ["train", "--data", NAME],
        ["train", "--cache", NAME],
        ["cache", "--out", "latents", "--data", NAME],
        ["sample", "--checkpoint", NAME],
        ["sample", "--replay", NAME],
        ["sample", "--pipeline", "nowhere", "--prompts-file", NAME],
        ["sample", "--pipeline", NAME, "--prompt", "x"],
        ["evaluate", "--real", NAME, "--generated", NAME, "--metrics", "psnr"],
    ],
)
def test_a_missing_file_with_any_name_gives_a_one_line_error(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_experiment: Callable[..., str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    Path("latte.yaml").write_text(tiny_experiment(vae={"weights": "demo"}))
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1, result.output
    first, *more = result.stderr.splitlines()
    assert all(SHOWN in line for line in (more or [first]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "commands",
    [
        [["--help"], ["configs"], ["train", "--help"]],
        [["train", "--dry-run", "--run-dir", NAME, "--data", f"videos{NAME}"]],
        [["cache", "--out", NAME, "--data", f"videos{NAME}"], ["cache", "--out", NAME, "--verify"]],
    ],
)
def test_a_narrow_ascii_terminal_can_show_every_name(
    commands: list[list[str]],
    tmp_path: Path,
    tiny_experiment: Callable[..., str],
    noise_videos: Callable[..., None],
) -> None:
    (tmp_path / "latte.yaml").write_text(tiny_experiment(), "utf-8")
    noise_videos(tmp_path / f"videos{NAME}", f"{NAME}1")
    for arguments in commands:
        done = subprocess.run(
            [sys.executable, "-m", "latte_cli", *arguments],
            cwd=tmp_path,
            env={**os.environ, **ASCII},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
    if "--verify" in arguments:
        assert done.stdout == b"1 entry, all intact\n"
