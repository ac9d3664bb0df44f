"""The robustness campaign: python tests/hostile [--only PART] [--table FILE].

Runs the parts one after another, shows what they print, and ends with a table; with --table, that table takes the
place of the one between the marks in a page of the documentation. Exit 1 when a part fails.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

HERE, ENDURANCE = Path(__file__).parent, Path(__file__).parents[1] / "endurance"
BEGIN, END = "<!-- begin of the table -->", "<!-- end of the table -->"


class Part(NamedTuple):
    """A script with its arguments, what it tries, and what must hold."""

    script: Path
    arguments: tuple[str, ...]
    tries: str
    holds: str


PARTS = {
    "files": Part(HERE / "campaign.py", (), "damaged and malicious sidecars, caches, pipelines, adapters, captions, prompts,"
        " experiments, checkpoints of a run, videos", "exit code 1, one line that names the fault, nothing written"),
    "machines": Part(HERE / "machines.py", (), "full disks, read-only folders, odd terminals and locales, closed streams,"
        " two runs in one folder", "one line, or the command runs"),
    "stops": Part(HERE / "stops.py", (), "every long command killed at random moments, and stopped by Ctrl-C, SIGTERM and SIGHUP",
        "no file half-written, no process left, one line and its exit code; the next run completes"),
    "cache kills": Part(ENDURANCE / "cache.py", ("--kills", "10"), "a cache killed at random moments", "the same cache as of a run left alone"),
    "cache disks": Part(ENDURANCE / "cache.py", ("--full-disk",), "a cache on disks that fill up", "one line; with room, the same cache"),
    "training kills": Part(ENDURANCE / "train.py", ("--kills", "10"), "a run killed at random moments", "the same bytes as of a run left alone"),
    "load": Part(HERE / "load.py", (), "20,000 steps of training, 100 prompts in one command", "memory grows by 10 % at most"),
}  # fmt: skip


def tried(name: str, part: Part) -> tuple[str, bool]:
    """A row of the table, and whether all held."""
    print(f"== {name}", flush=True)
    begun, lines = time.monotonic(), []
    command = [sys.executable, str(part.script), *part.arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    held = process.returncode == 0
    cases = sum(line.startswith(("ok ", "FAILS ")) for line in lines) or len(lines)
    failed = sum(line.startswith("FAILS ") for line in lines) or int(not held)
    result = f"{cases} held" if held else f"{failed} of {cases} FAIL"
    return f"| {part.tries} | {part.holds} | {result} | {time.monotonic() - begun:.0f} s |", held


def main() -> int:
    """Parse the command line and run the parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="run this part; repeatable")
    parser.add_argument("--table", type=Path, metavar="FILE", help="the page to write the table to")
    options = parser.parse_args()
    rows, all_held = [], True
    for name in options.only or PARTS:
        row, held = tried(name, PARTS[name])
        rows.append(row)
        all_held &= held
    table = "\n".join(["| tried | must hold | result | time |", "| --- | --- | --- | ---: |", *rows])
    print(f"\n{table}")
    if options.table is not None:
        page = options.table.read_text("utf-8")
        kept = re.sub(f"(?s){BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table}\n{END}", page)
        options.table.write_text(kept, "utf-8")
    return int(not all_held)


if __name__ == "__main__":
    sys.exit(main())
