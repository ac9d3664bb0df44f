"""Damaged and malicious files given to the command line: python tests/hostile/campaign.py [--only WORD].

Every case copies a small experiment (tests/golden/old_files, with its autoencoder and its pipeline), damages
one file or adds one, and runs one command in a process of its own. The command must end with exit code 1 in
time, print one line with the words given here and no traceback, and leave every file, inside and outside
of its folder, as it was. Cases named "control" are well-formed and must succeed. Exit 1 when a case fails.
The processes are forks of this one, which has imported the program. docs/security.md lists what is tried.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from cases import GROUPS, Case

from latte_cli.cli import app

FORK = multiprocessing.get_context("fork")
GOLDEN = Path(__file__).parents[1] / "golden"
TIMEOUT = 300  # seconds of a case; all but a few take less than ten


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--only", default="", help="run only cases whose group and name contain this")
    only = parser.parse_args().only
    failed = total = 0
    with tempfile.TemporaryDirectory() as scratch:
        original = experiment(Path(scratch, "original"))
        for group, cases in GROUPS.items():
            for case in cases:
                if only in f"{group}: {case.name}":
                    fault, said = run(case, original, Path(scratch, "a/b/c/d"))
                    print(f"{'FAILS' if fault else 'ok':5} {group}: {case.name}: {fault or said}", flush=True)
                    total, failed = total + 1, failed + bool(fault)
    print(f"{total} cases, {failed} failed")
    return int(failed > 0)


def experiment(folder: Path) -> Path:
    """The files that every case begins with."""
    shutil.copytree(GOLDEN / "old_files", folder)
    shutil.copytree(GOLDEN / "vae" / "diffusers", folder / "vae")
    shutil.copytree(GOLDEN / "t2v" / "pipeline", folder / "pipeline")
    with tarfile.open(folder / "mindrecord.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def run(case: Case, original: Path, place: Path) -> tuple[str, str]:
    """What is wrong with how a command took a case, if anything, and the last line that it said."""
    outermost = place.parents[2]
    shutil.rmtree(outermost, ignore_errors=True)
    shutil.copytree(original, place)
    os.chdir(place)
    case.spoil()
    before = snapshot(outermost)
    code, stderr = latte(case.command.split())
    os.chdir(original)
    if code is None:
        return f"hangs: over {TIMEOUT} s", ""
    lines = [line for line in stderr.splitlines() if line.strip()]
    said = lines[-1] if lines else ""
    changed = sorted(before.items() ^ snapshot(outermost).items())
    if code != (0 if case.name.startswith("control") else 1):
        return f"exit code {code}: {said}", said
    if "Traceback" in stderr or len(lines) > case.lines or case.expected not in stderr:
        return f"{len(lines)} lines, expected one with {case.expected!r}: {stderr[-1000:]}", said
    return (f"changed {changed[0][0]}" if changed else ""), said[:300]


def latte(arguments: list[str]) -> tuple[int | None, str]:
    """The exit code of a command in a fork, None if it takes too long, and what it wrote to stderr."""
    with tempfile.TemporaryFile() as said:
        process = FORK.Process(target=command, args=(arguments, said.fileno()))
        process.start()
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
            process.join()
            return None, ""
        said.seek(0)
        return process.exitcode, said.read().decode("utf-8", "replace")


def command(arguments: list[str], stderr: int) -> None:
    """Be the command line."""
    for stream, target in ((1, os.open(os.devnull, os.O_WRONLY)), (2, stderr)):
        os.dup2(target, stream)
    sys.argv = ["latte", *arguments]
    app.main()


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file; the experiment's own locks and caches of digests are none of them."""
    states = {path: path.lstat() for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
    folders = {str(path): (0, 0) for path in folder.rglob("*") if path.is_dir()}
    return folders | {str(path): (state.st_size, state.st_mtime_ns) for path, state in states.items()}


if __name__ == "__main__":
    sys.exit(main())
