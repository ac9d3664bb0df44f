"""Time a complete command against diffusers: `compare_command.py --torch PYTHON`, as in `make bench-peers`.

A small text-to-video pipeline is made; then `latte sample --pipeline`, diffusers' pipeline and `import
mindspore` alone take turns, each a process of its own: one clip in 20 steps with guidance, as mp4.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
PROMPT, STEPS = "a dog", 20  # of torch_pipeline.py
TARGET, START_TARGET = 0.9, 2.4  # of diffusers' time, and of importing MindSpore


def main() -> None:
    """Take the turns, and print the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--torch", type=Path, required=True, help="the python of a venv with torch and diffusers"
    )
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        pipeline = str(Path(work, "pipeline"))
        python = wanted.torch.absolute()  # with links resolved, it would not be that of its venv
        theirs = [str(python), str(HERE / "torch_pipeline.py")]
        seconds([*theirs, "make", pipeline], work)
        options = ["--prompt", PROMPT, "--steps", str(STEPS), "--format", "mp4", "--out", "ours"]
        commands = {
            "latte sample": [sys.executable, "-m", "latte_cli", "sample", "--pipeline", pipeline, *options],
            "diffusers": [*theirs, "sample", pipeline, "theirs.mp4"],
            "import mindspore": [sys.executable, "-c", "import mindspore"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for name, command in [*commands.items()] * (wanted.rounds + 1):
            times[name].append(seconds(command, work))
    found = {
        name: statistics.median(values[1:]) for name, values in times.items()
    }  # the first one has no cached files
    for name, value in found.items():
        print(f"{name:<17} {value:6.2f} s ({min(times[name][1:]):.2f}-{max(times[name][1:]):.2f})")
    ours = found["latte sample"]
    print(f"of diffusers' time {ours / found['diffusers']:.2f} (target {TARGET})", end=", ")
    print(f"of importing MindSpore's {ours / found['import mindspore']:.2f} (target {START_TARGET})")


def seconds(command: list[str], work: str) -> float:
    """The seconds that a command takes; it must succeed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(HERE.parents[1]), os.environ.get("PYTHONPATH")])
    )
    begun = time.perf_counter()
    done = subprocess.run(command, check=False, cwd=work, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
