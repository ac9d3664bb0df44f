"""A command run to its end, with the memory and the time that it took."""

import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PERIOD = 0.05  # seconds between two measurements of a command's memory
UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
TIMES = {"s": 1, "min": 60, "h": 3600, "days": 86400}


class Fact(NamedTuple):
    """The time and memory of a command."""

    peak: int
    """Bytes in memory at once, of all its processes; pages of mapped files among them."""
    own: int
    """The most of these that are not pages of a mapped file, which the system can take back."""
    seconds: float
    processor_seconds: float


class Expected(NamedTuple):
    """What `--dry-run` shows: None if it shows nothing."""

    memory: float | None
    seconds: float | None


def watch(command: Sequence[str], *, folder: Path) -> Fact:
    """Run a command. Raises CalledProcessError when it fails."""
    before, start, peak, own = os.times(), time.perf_counter(), 0, 0
    with subprocess.Popen(command, cwd=folder) as process:
        while process.poll() is None:
            anonymous, files = map(sum, zip(*map(_memory, _tree(process.pid)), strict=True))
            peak, own = max(peak, anonymous + files), max(own, anonymous)
            time.sleep(PERIOD)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    after = os.times()
    spent = sum(after[2:4]) - sum(before[2:4])
    return Fact(peak, own, time.perf_counter() - start, spent)


def plan_of(command: Sequence[str], *, folder: Path) -> Expected:
    """Ask a command for its plan."""
    result = subprocess.run(
        [*command, "--dry-run"], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    )
    memory = re.search(r"^memory +(?:at most )?about ([\d.,]+) (\w+)", result.stdout, re.MULTILINE)
    seconds = re.search(
        r"^time (?:.*,| +roughly) ([\d.,]+) (\w+)(?: for [\d,]+(?: with .*)?)?$", result.stdout, re.MULTILINE
    )
    return Expected(_number(memory, UNITS), _number(seconds, TIMES))


def _number(match: re.Match[str] | None, units: dict[str, float]) -> float | None:
    return None if match is None else float(match[1].replace(",", "")) * units[match[2]]


def _tree(pid: int) -> list[int]:
    """A process and its descendants, except for forks that have not started another program yet."""
    found = [pid]
    for one in found:
        command = _read(f"/proc/{one}/cmdline")
        children = _read(f"/proc/{one}/task/{one}/children").split()
        found += [int(child) for child in children if _read(f"/proc/{child}/cmdline") != command]
    return found


def _read(path: str) -> str:
    """A file's text, empty for a process that has ended."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _memory(pid: int) -> tuple[int, int]:
    """Bytes of a process: its own, and those of mapped files."""
    status = _read(f"/proc/{pid}/status")
    sizes = {name: 1024 * int(size) for name, size in re.findall(r"^(Rss\w+):\s+(\d+) kB", status, re.M)}
    return sizes.get("RssAnon", 0) + sizes.get("RssShmem", 0), sizes.get("RssFile", 0)
