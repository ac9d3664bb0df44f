"""Completion with Tab, tested with the protocol that the shells' scripts use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from latte_cli.cli.app import app

SKIES = ["sky", "sky_joint", "sky_long"]


def complete(shell: str, line: str) -> list[str]:
    """The completions of the last word of a command line."""
    environment = {
        "_LATTE_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [sys.executable, "-m", "latte_cli"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    if shell == "zsh":  # _arguments '*: :(("sky"\n"sky_joint"))', with a description after a colon
        quoted = done.stdout.partition("((")[2].partition("))")[0].splitlines()
        return [one.partition('":')[0].strip('"') for one in quoted]
    return [one.partition("\t")[0] for one in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("line", ["latte train -c sk", "latte configs sk", "latte doctor --config sk"])
def test_the_names_of_shipped_experiments_are_completed(shell: str, line: str) -> None:
    assert complete(shell, line) == SKIES


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_and_options_are_completed(shell: str) -> None:
    assert complete(shell, "latte tr") == ["train"]
    assert "--resume" in complete(shell, "latte train --res")


def test_a_shipped_experiment_is_found_by_name_unless_a_file_has_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ["convert", "--source", "missing.pt", "-c"]
    assert CliRunner().invoke(app, [*asked, "sky"]).stderr.startswith("missing.pt: no such file")
    assert CliRunner().invoke(app, [*asked, "skye"]).stderr.startswith("skye: no such file, expected an")
    Path("sky").mkdir()
    assert CliRunner().invoke(app, [*asked, "sky"]).stderr.startswith("missing.pt: no such file")
    Path("sky").rmdir()
    Path("sky").write_text(yaml.safe_dump({"model": {"dpth": 2}}))
    assert CliRunner().invoke(app, [*asked, "sky"]).stderr.startswith("sky: model.dpth: unknown key")


def test_the_demo_is_the_same_where_there_is_an_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latte.yaml").write_text("run_dir: runs/mine\ntrain: {steps: 1000000}\n")
    plan = CliRunner().invoke(app, ["demo", "--dry-run"])
    assert plan.exit_code == 0, plan.stderr
    assert "\nrun_dir: runs/demo\n" in f"\n{plan.stdout}"
