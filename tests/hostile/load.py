"""Memory under load: python tests/hostile/load.py [--only WORD] [--steps N] [--prompts N].

A run of many small training steps, and one command with many prompts. Memory at the end may be larger than
after a quarter of the run by at most GROWTH. 20,000 steps of four seconds would take a day. Exit code 1 if
memory grows.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from campaign import experiment

GROWTH = 0.10  # as a share of resident memory
INTERVAL = 0.1  # seconds between measurements


def memory_of(command: list[str], output: Path) -> list[int]:
    """Resident bytes of a command, measured from its first file in the folder `output` until it ends.

    Raises SystemExit if it fails.
    """
    sizes: list[int] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            if any(output.glob("*")):
                pages = Path(f"/proc/{process.pid}/statm").read_text().split()
                sizes.append(int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else 0)
            time.sleep(INTERVAL)
        _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {said[-500:]}")
    return [size for size in sizes if size]


def grown(sizes: list[int]) -> float:
    """By what share the median of the last tenth exceeds that of the tenth after the first quarter."""
    quarter, tenth = len(sizes) // 4, max(1, len(sizes) // 10)
    early = float(np.median(sizes[quarter : quarter + tenth]))
    return float(np.median(sizes[-tenth:])) / early - 1


def commands(steps: int, prompts: int) -> dict[str, list[str]]:
    """The commands by name. Writes the file of prompts."""
    Path("prompts.txt").write_text("".join(f"clip number {number}\n" for number in range(prompts)))
    latte = [sys.executable, "-m", "latte_cli"]
    tiny = "train -c experiment.yaml --run-dir long --set cache.in_memory=true"
    # The experiment saves every second step, which takes most of the time.
    tiny += " --set train.log_every=100 --set train.checkpoint_every=500"
    sample = "sample --device cpu --pipeline pipeline --steps 2 --format latents --out sampled"
    return {
        f"{steps:,} steps of training": [*latte, *tiny.split(), "--steps", str(steps)],
        f"{prompts} prompts in one command": [*latte, *sample.split(), "--prompts-file", "prompts.txt"],
    }


def main() -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--only", default="", help="run only commands whose name contains this")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--prompts", type=int, default=100)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(experiment(Path(scratch, "work")))
        for name, command in commands(options.steps, options.prompts).items():
            if options.only in name:
                output = Path("long/ckpt" if "train" in command else "sampled")
                sizes = memory_of(command, output)
                share = grown(sizes)
                fault = "" if share <= GROWTH else f"grows by {share:.0%}"
                said = fault or f"{sizes[-1] / 1e6:.0f} MB at the end, {share:+.1%}"
                print(f"{'FAILS' if fault else 'ok':5} {name}: {said}", flush=True)
                failed += bool(fault)
        os.chdir("/")
    print(f"{failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
