"""Training with several workers from the command line gives the same run as with one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from latte_cli.cli import app as cli

pytestmark = pytest.mark.slow

SECONDS = 300  # on a busy machine
runner = CliRunner()


@pytest.fixture
def experiment(working_folder: Callable[..., Path]) -> Path:
    """A working directory with a tiny experiment of three videos, kept as moments in memory."""
    train = {"batch_size": 2, "steps": 20, "checkpoint_every": 5}
    return working_folder("one", "two", "three", cache={"in_memory": True}, train=train)


def start(line: str) -> subprocess.Popen[str]:
    """A command in its own process, since workers are started by running the command again."""
    command = [sys.executable, "-m", "latte_cli", *line.split()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def losses(run_dir: str) -> list[float]:
    return [json.loads(line)["loss"] for line in Path(run_dir, "metrics.jsonl").read_text().splitlines()]


def weights(run_dir: str) -> dict[str, np.ndarray]:
    return load_file(Path(run_dir) / "ckpt" / "step-00000020.safetensors")


@pytest.mark.usefixtures("experiment")
def test_two_workers_train_like_one_with_twice_the_batch_or_accumulation_2() -> None:
    # The first worker samples a preview, and the other one waits without an error.
    two = start("train --run-dir two --parallel 2 --set train.preview_every=15 --set sample.steps=2")
    for flags in ("--run-dir one --set train.batch_size=4", "--run-dir passes --set train.accumulation=2"):
        done = runner.invoke(cli.app, ["train", *flags.split()], catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
    out, err = two.communicate(timeout=SECONDS)
    assert (two.returncode, out) == (0, "two\n"), err
    assert len(losses("one")) == 20
    clips = sorted(path.name for path in Path("two/samples").glob("*.mp4"))
    assert clips == [f"step-00000015-00{place}-seed{42 + place}.mp4" for place in (0, 1, 2)]
    for other in ("two", "passes"):
        np.testing.assert_allclose(losses(other), losses("one"), rtol=0, atol=1e-5)
        found = weights(other)
        for name, values in weights("one").items():
            if not name.startswith("optimizer/"):
                np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.usefixtures("experiment")
def test_float16_on_two_workers_trains_like_one_with_twice_the_batch() -> None:
    two = start("train --run-dir two --parallel 2 --set train.dtype=float16")
    done = runner.invoke(
        cli.app,
        ["train", "--run-dir", "one", "--set", "train.batch_size=4", "--set", "train.dtype=float16"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.stderr
    out, err = two.communicate(timeout=SECONDS)
    assert (two.returncode, out) == (0, "two\n"), err
    # Values rounded to the 11 bits of float16 are equal; sums over clips have another order.
    np.testing.assert_allclose(losses("two"), losses("one"), rtol=2**-11)


@pytest.mark.usefixtures("experiment")
def test_a_killed_worker_ends_the_run_with_one_line_and_one_worker_can_resume() -> None:
    run = start("train --run-dir run --parallel 2 --steps 1000000")
    deadline = time.monotonic() + SECONDS
    while not list(Path("run").glob("ckpt/step-*.safetensors")):
        assert time.monotonic() < deadline
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)
    pid = int(Path("run/logs/train/worker_1.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    begun = time.monotonic()
    _, err = run.communicate(timeout=SECONDS)
    assert time.monotonic() - begun < 60
    log = Path("run/logs/train/worker_1.log").resolve()
    assert run.returncode == 1
    assert err.splitlines()[-1] == f"worker 1 of 2 was killed by SIGKILL; its log: {log}"
    assert "Traceback" not in err

    last = max(int(path.stem.removeprefix("step-")) for path in Path("run/ckpt").iterdir())
    flags = ["--run-dir", "run", "--resume", "auto", "--steps", str(last + 1)]
    refused = runner.invoke(cli.app, ["train", *flags], catch_exceptions=False)
    assert (
        "the global batch was 4, now train.batch_size x train.accumulation x workers is 2" in refused.stderr
    )
    done = runner.invoke(cli.app, ["train", *flags, "--set", "train.batch_size=4"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    assert len(losses("run")) == last + 1
