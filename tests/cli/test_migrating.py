"""Every launch command of docs/migrating.md plans a run of four workers, as described there."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from latte_cli.cli import app as cli

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "migrating.md"
# The videos here are smaller than SkyTimelapse, and nothing is cached.
SMALLER = "--set data.num_frames=2 --set data.image_size=32 --set cache.dir=null --set model.preset=Latte-S/2"
SECONDS = 300


def launch_commands() -> list[str]:
    """Our side of the table of launch commands."""
    section = PAGE.read_text().partition("### Its launch commands")[2].partition("\n### ")[0]
    return re.findall(r"\| `([^`|]+)` \|$", section, re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise_videos: Callable[..., None]) -> Path:
    """A working directory with the experiments, videos, a rank table of four devices, and a file mpirun."""
    monkeypatch.chdir(tmp_path)
    Path("configs").symlink_to(ROOT / "configs")
    noise_videos(tmp_path / "datasets" / "sky_timelapse" / "sky_train", "one", "two", frames=8)
    devices = [{"rank_id": str(rank), "device_id": str(rank)} for rank in range(4)]
    Path("hccl_4p.json").write_text(json.dumps({"server_list": [{"device": devices}]}))
    Path("bin").mkdir()
    Path("bin/mpirun").write_text("#!/bin/sh\n")
    Path("bin/mpirun").chmod(0o755)
    folders = [str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(folders))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def plan_of(line: str) -> str:
    """The plan that a command line prints, with `SMALLER` and --dry-run added."""
    launcher, _, rest = line.rpartition("latte_cli " if " -m latte_cli " in line else "latte ")
    arguments = [*shlex.split(rest), *SMALLER.split(), "--dry-run"]
    if launcher.startswith("msrun "):
        module = [sys.executable, "-m", "mindspore.parallel.cluster.run"]
        command = [*module, *shlex.split(launcher)[1:], "latte_cli", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 0, done.stderr
        return text_of(Path("msrun_log/worker_0.log"), ending="writes")
    variables = {}
    if launcher:
        assert shlex.split(launcher) == ["mpirun", "-n", "4"]
        variables = {
            "OMPI_COMM_WORLD_RANK": "0",
            "OMPI_COMM_WORLD_SIZE": "4",
            "OMPI_COMM_WORLD_LOCAL_RANK": "0",
        }
    done = CliRunner().invoke(cli.app, arguments, env=variables, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def text_of(log: Path, *, ending: str) -> str:
    """Wait until a log contains `ending`, since msrun does not wait for its workers; returns the log."""
    deadline = time.monotonic() + SECONDS
    while ending not in (text := log.read_text() if log.exists() else ""):
        assert time.monotonic() < deadline, text
        time.sleep(0.1)
    return text


def test_the_page_shows_each_of_the_launchers() -> None:
    first = [line.split()[0] for line in launch_commands()]
    assert sorted(first) == ["latte", "latte", "latte", "mpirun", "msrun"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("line", launch_commands())
def test_a_launch_command_plans_four_workers(line: str) -> None:
    words = " ".join(plan_of(line).split())
    batch = 1 * 4 if "sky_long" in line else 5  # batch size x accumulation of each worker
    assert f"clips per step {4 * batch} of 2 frames, latents 4 x 4, shared by 4 workers" in words
