"""Commands that are stopped while they compute."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_from_a_terminal")]

LONG = {"vae": {"chunk_frames": 2}, "cache": {"dir": "latents"}}
ENDLESS = {"cache": {"in_memory": True}, "train": {"steps": 1_000_000}}
SECONDS = 300  # on a busy machine
STATUS = r"Start Video Index: 0\.\nSaving Attempts: 0: save (\d+) videos, failed 0 videos\.\n"


@pytest.fixture
def experiment(tmp_path: Path, tiny_experiment: Callable[..., str]) -> Path:
    """A working directory with many more frames than are encoded before the signal arrives."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), np.uint8)
    first, *others = [Image.fromarray(frame) for frame in pixels]
    (tmp_path / "videos").mkdir()
    first.save(tmp_path / "videos" / "0.gif", save_all=True, append_images=others)
    for number in range(1, 60):
        os.link(tmp_path / "videos" / "0.gif", tmp_path / "videos" / f"{number}.gif")
    (tmp_path / "latte.yaml").write_text(tiny_experiment(**LONG))
    return tmp_path


def stop(
    folder: Path, *arguments: str, number: signal.Signals, began: Callable[[], bool] | None = None
) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a run that gets a signal when it `began`: printed "encoding"."""
    began = began or (lambda: "encoding" in (folder / "err").read_text())
    command = [sys.executable, "-m", "latte_cli", *arguments]
    with (folder / "err").open("w+") as err:
        run = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=err, text=True)
        end = time.monotonic() + SECONDS
        while not began() and run.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.1)
        time.sleep(0.5)
        run.send_signal(number)
        out, _ = run.communicate(timeout=SECONDS)
    return run.returncode, out, (folder / "err").read_text()


def code_of(number: signal.Signals) -> int:
    """The exit code after a signal; MindSpore may have turned Ctrl-C into SIGTERM."""
    return 129 if number == signal.SIGHUP else 130


@pytest.mark.parametrize(
    ("flags", "number"),
    [
        ((), signal.SIGINT),
        ((), signal.SIGTERM),
        ((), signal.SIGHUP),
        (("--type", "mindrecord"), signal.SIGTERM),
        (("--parallel", "2"), signal.SIGINT),
        (("--parallel", "2"), signal.SIGHUP),
    ],
)
def test_a_stopped_run_shows_how_to_continue_and_leaves_no_partial_files(
    flags: tuple[str, ...], number: signal.Signals, experiment: Path
) -> None:
    code, out, err = stop(experiment, "cache", *flags, number=number)
    assert code == code_of(number), err
    assert (status := re.fullmatch(STATUS, out)), out
    last = err.splitlines()[-1]
    assert last == "interrupted; finished entries are kept: run the same command again to continue"
    assert err.count("interrupted") == 1
    folder = experiment / "latents"
    complete = len(list(folder.glob("latents/*.npy")))
    assert int(status[1]) <= complete <= int(status[1]) + 2, (
        "a worker can be stopped after a file and before its entry"
    )
    kept = {path.name for path in folder.iterdir()} if folder.exists() else set()
    assert kept <= {"cache.json", "manifest.jsonl", "latents", "shards.json"}
    assert kept or int(status[1]) == 0, "a folder is removed only if nothing was saved"
    assert not list(folder.rglob(".*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_training_saves_and_can_be_resumed(
    number: signal.Signals, experiment: Path, tiny_experiment: Callable[..., str]
) -> None:
    (experiment / "latte.yaml").write_text(tiny_experiment(**ENDLESS))
    for path in sorted((experiment / "videos").iterdir())[2:]:
        path.unlink()
    metrics = experiment / "run" / "metrics.jsonl"
    code, _, err = stop(experiment, "train", number=number, began=metrics.exists)
    step = len(metrics.read_text().splitlines())
    said = f"interrupted; step {step} is saved: add --resume auto to continue"
    assert (code, err.splitlines()[-1]) == (code_of(number), said)
    assert list((experiment / "run" / "ckpt").glob(f"*{step}.*"))
    more = ("train", "--resume", "auto", "--steps", str(step + 1), "--set", "train.log_every=1")
    done = subprocess.run(
        [sys.executable, "-m", "latte_cli", *more, "--allow-changes"],
        cwd=experiment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(metrics.read_text().splitlines()) == step + 1


def test_closing_the_terminal_of_a_training_run_saves_first(
    experiment: Path, tiny_experiment: Callable[..., str]
) -> None:
    (experiment / "latte.yaml").write_text(tiny_experiment(**ENDLESS))
    for path in sorted((experiment / "videos").iterdir())[2:]:
        path.unlink()
    metrics, ckpt = experiment / "run" / "metrics.jsonl", experiment / "run" / "ckpt"
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(experiment)
        os.execv(sys.executable, [sys.executable, "-m", "latte_cli", "train"])
    end = time.monotonic() + SECONDS
    while not metrics.exists():
        assert time.monotonic() < end
        read, _, _ = select.select([terminal], [], [], 0.1)
        if read:
            os.read(terminal, 65536)
    os.close(terminal)  # the kernel sends SIGHUP; every later write to the terminal fails
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    step = len(metrics.read_text().splitlines())
    assert list(ckpt.glob(f"step-*{step}.safetensors"))
