"""Whether a seed determines a run: python tests/endurance/determinism.py --steps 120 (see --help). Exit code
1 if a bit of a loss or of the checkpoint differs.

Runs the demo's experiment twice, the second time next to a process that multiplies matrices on all cores.
Takes about four minutes on two cores.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


def work() -> None:
    """Keep all cores busy."""
    matrix = np.random.default_rng(0).standard_normal((1024, 1024))
    while True:
        matrix = matrix @ matrix
        matrix /= np.abs(matrix).max()


def train(run_dir: str, steps: int) -> tuple[list[list[float]], int, float]:
    """Run the demo. Returns each step's numbers, the checkpoint's checksum, and the seconds."""
    flags = ["--run-dir", run_dir, "--steps", str(steps), "--set", "train.log_every=1"]
    begun = time.monotonic()
    command = [sys.executable, "-m", "latte_cli", "train", *flags]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - begun
    lines = [json.loads(line) for line in Path(run_dir, "metrics.jsonl").read_text().splitlines()]
    checksum = 0
    for _, values in sorted(load_file(max(Path(run_dir, "ckpt").glob("step-*"))).items()):
        checksum = zlib.crc32(values.tobytes(), checksum)
    names = ("step", "loss", "mse", "vb", "grad_norm", "lr")
    return [[line[name] for name in names] for line in lines], checksum, seconds


def main() -> int:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=120)
    options = parser.parse_args()
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(here), os.environ.get("PYTHONPATH", "")])
        os.chdir(folder)
        alone, alone_sum, alone_seconds = train("alone", options.steps)
        busy = multiprocessing.Process(target=work, daemon=True)
        busy.start()
        busy, busy_sum, busy_seconds = train("busy", options.steps)
        busy.terminate()
        os.chdir(here)
    differing = [one[0] for one, other in zip(alone, busy, strict=True) if one != other]
    print(
        f"{len(alone)} steps, alone in {alone_seconds:.0f} s and next to a busy process in"
        f" {busy_seconds:.0f} s: {len(differing)} differ in loss or norm; checkpoints"
        f" {'equal' if alone_sum == busy_sum else 'differ'}"
    )
    return 0 if not differing and alone_sum == busy_sum else 1


if __name__ == "__main__":
    sys.exit(main())
