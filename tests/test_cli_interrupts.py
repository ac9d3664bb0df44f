"""`latte cache` that is told to stop while it encodes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

GOLDEN = Path(__file__).parent / "golden"
LONG = f"""
device: cpu
data: {{root: videos, image_size: 32, num_frames: 2, frame_stride: 1}}
vae: {{weights: {GOLDEN / "vae" / "diffusers"}, chunk_frames: 2}}
cache: {{dir: latents}}
"""
SECONDS = 300  # on a machine with much else to do
STATUS = r"Start Video Index: 0\.\nSaving Attempts: 0: save (\d+) videos, failed 0 videos\.\n"


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A working directory with many more frames than are encoded before a signal comes."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), np.uint8)
    first, *others = [Image.fromarray(frame) for frame in pixels]
    (tmp_path / "videos").mkdir()
    first.save(tmp_path / "videos" / "0.gif", save_all=True, append_images=others)
    for number in range(1, 60):
        os.link(tmp_path / "videos" / "0.gif", tmp_path / "videos" / f"{number}.gif")
    (tmp_path / "latte.yaml").write_text(LONG)
    return tmp_path


def stop(folder: Path, *flags: str, number: signal.Signals) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a run that gets a signal once it encodes."""
    command = [sys.executable, "-m", "latte_cli", "cache", *flags]
    with (folder / "err").open("w+") as err:
        run = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=err, text=True)
        end = time.monotonic() + SECONDS
        while "encoding" not in (folder / "err").read_text() and run.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.1)
        time.sleep(0.5)
        run.send_signal(number)
        out, _ = run.communicate(timeout=SECONDS)
    return run.returncode, out, (folder / "err").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("flags", [(), ("--type", "mindrecord"), ("--parallel", "2")])
def test_a_run_that_is_told_to_stop_shows_its_status_says_how_to_go_on_and_leaves_no_half(
    flags: tuple[str, ...], number: signal.Signals, experiment: Path
) -> None:
    code, out, err = stop(experiment, *flags, number=number)
    assert code == 130, err
    assert (status := re.fullmatch(STATUS, out)), out
    last = err.splitlines()[-1]
    assert last == "interrupted; what is done is kept: run the same command again to go on"
    assert err.count("interrupted") == 1
    folder = experiment / "latents"
    whole = len(list(folder.glob("latents/*.npy")))
    assert int(status[1]) <= whole <= int(status[1]) + 2, "a worker may be stopped between file and entry"
    assert {path.name for path in folder.iterdir()} <= {
        "cache.json",
        "manifest.jsonl",
        "latents",
        "shards.json",
    }
    assert not list(folder.rglob(".*"))
