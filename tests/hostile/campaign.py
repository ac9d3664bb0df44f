"""Commands on damaged and malicious files: python tests/hostile/campaign.py [--only WORD].

Every case copies a small experiment (tests/golden/old_files, with an autoencoder and a pipeline), damages or
adds one file, and runs one command in a new process. The command must end with exit code 1 within TIMEOUT,
print one line that contains the case's text, and no traceback, and must not change any file inside or outside
the folder. Cases whose names begin with "control" are valid and must succeed. Exit code 1 if a case fails.
The processes are forks of this one, which has already imported the program. docs/security.md lists the cases.
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
TIMEOUT = 300  # seconds per case; most take less than ten


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
    """Create the experiment that every case copies."""
    shutil.copytree(GOLDEN / "old_files", folder)
    shutil.copytree(GOLDEN / "vae" / "diffusers", folder / "vae")
    shutil.copytree(GOLDEN / "t2v" / "pipeline", folder / "pipeline")
    with tarfile.open(folder / "mindrecord.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def run(case: Case, original: Path, place: Path) -> tuple[str, str]:
    """Run a case. Returns what is wrong, empty if nothing is, and the last line on stderr."""
    outermost = place.parents[2]
    shutil.rmtree(outermost, ignore_errors=True)
    shutil.copytree(original, place)
    os.chdir(place)
    case.spoil()
    before = snapshot(outermost)
    code, stderr = latte(case.command.split())
    os.chdir(original)
    if code is None:
        return f"did not end within {TIMEOUT} s", ""
    lines = [line for line in stderr.splitlines() if line.strip()]
    said = lines[-1] if lines else ""
    changed = sorted(before.items() ^ snapshot(outermost).items())
    if code != (0 if case.name.startswith("control") else 1):
        return f"exit code {code}: {said}", said
    if "Traceback" in stderr or len(lines) > case.lines or case.expected not in stderr:
        return f"{len(lines)} lines, expected one with {case.expected!r}: {stderr[-1000:]}", said
    return (f"changed {changed[0][0]}" if changed else ""), said[:300]


def latte(arguments: list[str]) -> tuple[int | None, str]:
    """Run a command in a fork. Returns its exit code, None if it takes too long, and its stderr."""
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
    """Run the command line in this process, with its stderr into a file."""
    for stream, target in ((1, os.open(os.devnull, os.O_WRONLY)), (2, stderr)):
        os.dup2(target, stream)
    sys.argv = ["latte", *arguments]
    app.main()


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and modification time of every file; folders are listed without them."""
    states = {path: path.lstat() for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
    folders = {str(path): (0, 0) for path in folder.rglob("*") if path.is_dir()}
    return folders | {str(path): (state.st_size, state.st_mtime_ns) for path, state in states.items()}


if __name__ == "__main__":
    sys.exit(main())
