"""The robustness campaign: python tests/hostile [--only PART] [--table FILE].

Runs the parts one after another, shows their output, and prints a table at the end. --table also writes the
rows of these parts into the table of a page of the documentation, between two marks. Exit code 1 if a part
fails.
"""

import argparse
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE, ENDURANCE = Path(__file__).parent, Path(__file__).parents[1] / "endurance"
BEGIN, END = "<!-- begin of the table -->", "<!-- end of the table -->"
HEAD = "| part | result | processor time |\n| --- | --- | ---: |"


class Part(NamedTuple):
    """A script with its arguments. It prints a line that begins with ok or FAILS for each case."""

    script: Path
    arguments: tuple[str, ...] = ()


PARTS = {
    "files": Part(HERE / "campaign.py"),
    "machines": Part(HERE / "machines.py"),
    "stops": Part(HERE / "stops.py"),
    "cache kills": Part(ENDURANCE / "cache.py", ("--kills", "10")),
    "cache disks": Part(ENDURANCE / "cache.py", ("--full-disk",)),
    "training kills": Part(ENDURANCE / "train.py", ("--kills", "10", "--steps", "400")),
    "load": Part(HERE / "load.py"),
}


def run_part(name: str, part: Part) -> tuple[str, bool]:
    """Run a part. Returns its row of the table, and whether all its cases passed."""
    print(f"== {name}", flush=True)
    begun, lines = seconds_of_children(), []
    command = [sys.executable, str(part.script), *part.arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    cases = sum(line.startswith(("ok ", "FAILS ")) for line in lines)
    failed = sum(line.startswith("FAILS ") for line in lines)
    held = process.returncode == 0 and cases > 0
    result = f"{cases} held" if held else f"{failed} of {cases} FAIL" if failed else "FAILS"
    return f"| `{name}` | {result} | {minutes(seconds_of_children() - begun)} |", held


def seconds_of_children() -> float:
    """Processor time of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def minutes(seconds: float) -> str:
    """A duration as text, such as 3 min 5 s."""
    whole, rest = divmod(round(seconds), 60)
    return f"{whole} min {rest} s" if whole else f"{rest} s"


def with_rows(page: str, rows: dict[str, str]) -> str:
    """A page with these rows in its table; rows of other parts stay."""
    before, _, rest = page.partition(BEGIN)
    table, _, after = rest.partition(END)
    every = {match[1]: match[0] for match in re.finditer(r"(?m)^\| `(.+?)` \|.*$", table)} | rows
    lines = [HEAD, *(every[name] for name in PARTS if name in every)]
    return "\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"])


def main() -> int:
    """Parse the command line and run the parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--only", choices=PARTS, action="append", help="run this part; repeatable")
    parser.add_argument("--table", type=Path, metavar="FILE", help="the page with the table")
    options = parser.parse_args()
    rows, all_held = {}, True
    for name in options.only or PARTS:
        rows[name], held = run_part(name, PARTS[name])
        all_held &= held
        if options.table is not None:
            options.table.write_text(with_rows(options.table.read_text("utf-8"), rows), "utf-8")
    print("\n".join(["", HEAD, *rows.values()]))
    return int(not all_held)


if __name__ == "__main__":
    sys.exit(main())
