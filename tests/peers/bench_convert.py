"""How `latte convert` compares with PyTorch on a training checkpoint: seconds, and the most memory held.

    python tests/peers/bench_convert.py --torch-python /path/to/python-with-torch [--folder /tmp/x] [--rounds
    5]

Makes a checkpoint {"model", "ema"} of Latte-XL/2's size (5.4 GB; random numbers, names and shapes of
tests/golden/keys) with the given Python, then takes turns: `latte convert` of it, and `torch.load` plus
`torch.save` of its averaged weights, each a process of its own. Both write the same 2.7 GB; ours also checks
every number and flushes the file to the disk. Prints each turn, the medians and their ratio, and compares the
two results number by number.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

KEYS = Path(__file__).parents[1] / "golden/keys/Latte-XL-2_ucf101_class101_256_f16.json"
MAKE = """
import json, sys, torch
names = json.load(open(sys.argv[1]))["tensors"]
torch.manual_seed(0)
random = lambda: {name: torch.randn(shape) * 0.02 for name, (_, shape) in names.items()}
torch.save({"model": random(), "ema": random()}, sys.argv[2])
"""
THEIRS = """
import sys, time, torch
begun = time.perf_counter()
torch.save(torch.load(sys.argv[1], map_location="cpu")["ema"], sys.argv[2])
print(time.perf_counter() - begun)
"""
COMPARE = """
import sys, torch
theirs, ours = (torch.load(path, map_location="cpu") for path in sys.argv[1:])
assert list(theirs) == list(ours["ema"]), "names differ"
assert all(torch.equal(theirs[name], ours["ema"][name]) for name in theirs), "numbers differ"
"""


class Turn(NamedTuple):
    """A process: seconds from start to end, the most memory it held, and what it printed."""

    seconds: float
    peak: int
    output: str


def main() -> None:
    """Make the checkpoint, take turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/bench_convert"))
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    try:
        compare(chosen.torch_python, chosen.folder, chosen.rounds)
    finally:
        shutil.rmtree(chosen.folder)


def compare(torch_python: str, folder: Path, rounds: int) -> None:
    """Take turns over one checkpoint."""
    source, ours, theirs = folder / "train.pt", folder / "ours.ckpt", folder / "theirs.pt"
    turn([torch_python, "-c", MAKE, str(KEYS), str(source)])
    written = sum(4 * _product(shape) for _, shape in json.loads(KEYS.read_text())["tensors"].values())
    allowed = 1.3 * written + 0.6e9
    sizes = (source.stat().st_size, written, allowed)
    print(
        "checkpoint {:.2f} GB, weights {:.2f} GB, allowed memory {:.2f} GB".format(
            *(size / 1e9 for size in sizes)
        )
    )
    latte = [sys.executable, "-m", "latte_cli", "convert", "--source", str(source)]
    results: dict[str, list[Turn]] = {"latte": [], "torch": []}
    for _ in range(rounds):
        for name, command, target in (
            ("latte", [*latte, "--target", str(ours)], ours),
            ("torch", [torch_python, "-c", THEIRS, str(source), str(theirs)], theirs),
        ):
            target.unlink(missing_ok=True)
            os.sync()
            result = turn(command)
            results[name].append(result)
            inside = f", {float(result.output):.2f} s without imports" if name == "torch" else ""
            print(f"{name}: {result.seconds:.2f} s{inside}, peak {result.peak / 1e9:.2f} GB", flush=True)
    medians = {name: statistics.median(one.seconds for one in turns) for name, turns in results.items()}
    bare = statistics.median(float(one.output) for one in results["torch"])
    ratio, bare_ratio = medians["latte"] / medians["torch"], medians["latte"] / bare
    print(f"medians {medians}; latte / torch {ratio:.2f}, without torch's imports {bare_ratio:.2f}")
    print(f"latte's peak {max(one.peak for one in results['latte']) / 1e9:.2f} GB")
    back = folder / "ours.pt"
    turn([*latte, "--to", "torch", "--target", str(back)])
    turn([torch_python, "-c", COMPARE, str(theirs), str(back)])
    print("the two results have the same names and numbers")


def turn(command: list[str]) -> Turn:
    """Run a command to its end; its failure is ours."""
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(f"{command[:3]} ended with {process.returncode}")
    return Turn(seconds, usage.ru_maxrss * 1024, output)


def _product(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


if __name__ == "__main__":
    main()
