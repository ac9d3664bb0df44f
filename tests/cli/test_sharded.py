"""Training with several workers that share the optimizer's state gives the same run as with one."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from latte_cli.cli import app as cli
from latte_cli.core.planning.units import bytes_of

pytestmark = pytest.mark.slow

SECONDS = 300  # on a busy machine
LAST = "ckpt/step-00000006.safetensors"
SHARDED = "--set train.shard_optimizer=true"
runner = CliRunner()


@pytest.fixture
def experiment(working_folder: Callable[..., Path], noise_videos: Callable[..., None]) -> Path:
    """A working directory with a tiny experiment with two passes per step and gradient clipping."""
    train = {"accumulation": 2, "steps": 6, "checkpoint_every": 3, "clip_norm": 0.5, "weight_decay": 0.1}
    folder = working_folder("one", "two", "three", cache={"in_memory": True}, train=train)
    noise_videos(folder / "held", "four")
    return folder


def by_workers(flags: str) -> str:
    """Run training with several workers; returns its stderr."""
    command = [sys.executable, "-m", "latte_cli", "train", *flags.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def by_one(flags: str) -> str:
    done = runner.invoke(cli.app, ["train", *flags.split()], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stderr


def check_same(run: str, other: str) -> None:
    """Check that the losses of two runs and their last checkpoints are equal to 1e-5."""
    losses = [
        [json.loads(line)["loss"] for line in Path(name, "metrics.jsonl").read_text().splitlines()]
        for name in (run, other)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0, atol=1e-5)
    found, expected = load_file(Path(run, LAST)), load_file(Path(other, LAST))
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.usefixtures("experiment")
def test_sharded_workers_train_like_one_and_one_or_two_can_resume() -> None:
    by_workers(f"--run-dir two --parallel 2 --set train.batch_size=3 {SHARDED}")
    by_one("--run-dir one --set train.batch_size=6")
    check_same("two", "one")

    for name in ("resumed-one", "resumed-two"):
        shutil.copytree("two", name)
        Path(name, LAST).unlink()
    by_one("--run-dir resumed-one --resume auto --set train.batch_size=6")
    check_same("resumed-one", "two")
    by_workers(f"--run-dir resumed-two --resume auto --parallel 2 --set train.batch_size=3 {SHARDED}")
    found = load_file(Path("resumed-two", LAST))
    for name, values in load_file(Path("two", LAST)).items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.usefixtures("experiment")
def test_two_workers_whose_steps_are_one_graph_train_as_one_and_three_resume(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on devices: the mean of the gradients and the exchange of updated weights are in the graph."""
    monkeypatch.setenv("LATTE_KERNELS", "off")
    by_workers(f"--run-dir two --parallel 2 --set train.batch_size=3 {SHARDED}")
    by_one("--run-dir one --set train.batch_size=6")
    check_same("two", "one")
    shutil.copytree("two", "resumed")
    Path("resumed", LAST).unlink()
    by_workers(f"--run-dir resumed --resume auto --parallel 3 --set train.batch_size=2 {SHARDED}")
    check_same("resumed", "two")


@pytest.mark.usefixtures("experiment")
def test_previews_and_validation_use_the_averages_of_all_workers() -> None:
    flags = (
        "--set data.validation=held --set train.validate_every=3 --set train.validate_clips=4"
        " --set train.preview_every=6 --set sample.steps=2 --set sample.num_samples=1"
    )
    by_workers(f"--run-dir two --parallel 2 --set train.batch_size=3 {SHARDED} {flags}")
    by_workers(f"--run-dir whole --parallel 2 --set train.batch_size=3 {flags}")
    check_same("two", "whole")
    validations = [
        [
            json.loads(line).get("validation_loss")
            for line in Path(name, "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("two", "whole")
    ]
    assert validations[0] == validations[1]
    (preview,) = Path("two/samples").glob("*.mp4")
    assert preview.read_bytes() == Path("whole/samples", preview.name).read_bytes()


@pytest.mark.usefixtures("experiment")
def test_the_plan_counts_the_share_of_a_worker_and_rejects_lora() -> None:
    for number in (1, 2):
        plan = runner.invoke(
            cli.app, ["train", "--dry-run", "--parallel", str(number), *SHARDED.split()]
        ).stdout
        trained = re.search(r"of which ([\d,]+) are trained", plan)
        assert trained is not None
        share = int(trained[1].replace(",", "")) // number
        assert f"moments {bytes_of(8 * share)}, ema {bytes_of(4 * share)}" in " ".join(plan.split())
    flags = f"--dry-run {SHARDED} --set train.part=lora --set model.architecture=latte-t2v"
    refused = runner.invoke(cli.app, ["train", *flags.split()], catch_exceptions=False)
    assert refused.exit_code == 1
    expected = "train.shard_optimizer: found true, expected false, for part: lora, whose few parameters have"
    assert expected in refused.stderr
