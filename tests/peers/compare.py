"""Time ours against PyTorch: `compare.py --torch PYTHON`, as `make bench-peers` runs it.

For each task and size, one process of each side is started; they stay alive and take turns, one round after
the other, so that both see the same machine. A round gives the ratio of ours to each of the others; the
medians and quartiles of those are printed and written. What both sides compute from the same weights and
inputs is compared first.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
SECONDS_A_TURN = 0.5  # short tasks are repeated within a turn
LEAST_ROUNDS = 3
TOLERANCE = 2e-4  # of the largest value: float32 sums in another order

# The upper bound of our time over PyTorch's.
TARGETS = {"train": 1.0, "forward": 0.95, "sample": 0.95, "encode": 1.0, "decode": 1.0}
LATTE = ("forward", "train", "sample")
SIZES = dict.fromkeys(LATTE, ("S/2", "demo")) | dict.fromkeys(("encode", "decode"), ("256 px",))
COMPARED = ("forward", "encode", "decode")  # the other tasks draw their own noise

Times = dict[str, list[float]]
"""By worker's name, a turn's time a round."""


class Worker:
    """One side of the measurement, alive until it is closed."""

    def __init__(self, name: str, command: list[str]):
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the worker)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        self.ready = self._answer()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.errors.seek(0)
            raise SystemExit(f"{self.errors.read()[-2000:]}\n{self.name} ended with code {code}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def commands(task: str, size: str, torch: str) -> dict[str, list[str]]:
    """What to start, by name; ours first."""
    ours = {"ours": [sys.executable, str(HERE / "our_worker.py"), task, size]}
    kinds = ("plain", "sdpa", "compiled") if task in LATTE else ("plain", "compiled")
    peer = [torch, str(HERE / "torch_worker.py"), task, size]
    return ours | {f"torch {kind}": [*peer, kind] for kind in kinds}


def measure(task: str, size: str, *, torch: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Times, ratios, first calls and memory of one task at one size."""
    workers = [Worker(name, command) for name, command in commands(task, size, torch).items()]
    try:
        first = {worker.name: worker.ask(do=1)["seconds"] for worker in workers}
        if task in COMPARED:
            check_equal(task, workers)
        warm = {worker.name: worker.ask(do=1)["seconds"] for worker in workers}
        repeats = max(1, math.ceil(SECONDS_A_TURN / min(warm.values())))
        times: Times = {worker.name: [] for worker in workers}
        busy: Times = {worker.name: [] for worker in workers}
        begun = time.monotonic()
        for number in range(rounds):
            # The first one after the other's turn has colder caches, so the order alternates.
            for worker in workers if number % 2 else reversed(workers):
                turn = worker.ask(do=repeats)
                times[worker.name].append(turn["seconds"])
                busy[worker.name].append(turn["cpu_seconds"])
            if number + 1 >= LEAST_ROUNDS and time.monotonic() - begun > seconds:
                break
        peaks = {worker.name: worker.ask(peak=True)["peak"] for worker in workers}
        start = {worker.name: worker.ready["resident"] for worker in workers}
    finally:
        for worker in workers:
            worker.close()
    return {
        "task": task,
        "size": size,
        "rounds": len(times["ours"]),
        "repeats": repeats,
        "seconds": {name: summary(values) for name, values in times.items()},
        "ratios": {name: ratio(times, name) for name in times if name != "ours"},
        "least_ratios": {name: min(times["ours"]) / min(times[name]) for name in times if name != "ours"},
        "cpu_ratios": {name: ratio(busy, name) for name in busy if name != "ours"},
        "first_seconds": first,
        "peak_bytes": peaks,
        "start_bytes": start,
    }


def check_equal(task: str, workers: list[Worker]) -> None:
    """End with an error when the sides do not compute the same."""
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for place, worker in enumerate(workers):
            path = f"{folder}/{place}.npy"
            worker.ask(save=path)
            results.append(np.load(path))
    for worker, result in zip(workers[1:], results[1:], strict=True):
        gap = np.abs(result - results[0]).max() / np.abs(result).max()
        if not gap <= TOLERANCE:
            raise SystemExit(f"{task}: ours and {worker.name} differ by {gap:.1e} of the largest value")


def ratio(times: Times, name: str) -> dict[str, float]:
    """Ours over the other's, round by round."""
    return summary([ours / other for ours, other in zip(times["ours"], times[name], strict=True)])


def summary(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "low": float(low), "high": float(high)}


HEADING = (
    "ours over PyTorch's: medians of ratios, with quartiles; least: of each side's best turn;\n"
    "cpu: of all threads' time\n"
    "task     size   against           ours    torch  ratio quartiles least   cpu target first s mem GB  of"
)


def lines(result: dict[str, Any]) -> Iterator[str]:
    """A result as text, a line for each other side."""
    task, memory, first = result["task"], result["peak_bytes"], result["first_seconds"]["ours"]
    for name, found in result["ratios"].items():
        ours, other = (result["seconds"][side]["median"] for side in ("ours", name))
        least, busy = result["least_ratios"][name], result["cpu_ratios"][name]["median"]
        yield (
            f"{task:<8} {result['size']:<6} {name:<14} {ours:8.3f} {other:8.3f} {found['median']:7.2f} "
            f"{found['low']:5.2f}-{found['high']:.2f} {least:5.2f} {busy:5.2f} {TARGETS[task]:6.2f} "
            f"{first:7.1f} {memory['ours'] / 1e9:6.2f} {memory['ours'] / memory[name]:5.2f}"
        )


def describe_machine() -> dict[str, Any]:
    """The processor, memory and system."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [one.split(":")[1].strip() for one in text.splitlines() if one.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "load": os.getloadavg(),
    }


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--torch", required=True, help="the python of a venv with torch")
    parser.add_argument("--task", action="append", choices=[*SIZES], help="repeatable; else all")
    parser.add_argument(
        "--size", action="append", choices=["S/2", "demo", "256 px"], help="repeatable; else all"
    )
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=90, help="begin no further round after these")
    parser.add_argument("--cores", type=int, help="use so many; one is steadier on a busy machine")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.cores:  # inherited by the workers, whose number of threads depends on it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-args.cores :])
    print(HEADING, flush=True)
    results = []
    for task in args.task or SIZES:
        for size in SIZES[task]:
            if args.size and size not in args.size:
                continue
            result = measure(task, size, torch=args.torch, rounds=args.rounds, seconds=args.seconds)
            results.append(result)
            print("\n".join(lines(result)), flush=True)
    if args.out:
        args.out.write_text(json.dumps({"machine": describe_machine(), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
