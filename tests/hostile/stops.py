"""Commands killed and stopped at random moments: python tests/hostile/stops.py [--only WORD] [--kills N].

Each command is killed by SIGKILL at random moments, then stopped once each by Ctrl-C, SIGTERM and SIGHUP.
After each of these, every visible file of its output must be complete, files that are the same in every run
must equal those of an uninterrupted run, and no process of its session may remain. After a signal the command
must print one line and return its exit code. A last run must then write every file and leave no partial one.
Exit code 1 if a case fails.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from campaign import experiment
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_hub import small_hub

SECONDS = 600  # per command, on a busy machine
TRACEBACK = 2000  # characters of one that are shown
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EVENTS = re.compile(r"tfevents\..*")  # TensorBoard's file is named after the time and the machine
DRAW = "--device cpu --pipeline pipeline --prompt x --prompt y"
WEIGHTS_BYTES = 40 << 20  # read by convert, and fetched by the download


@dataclass(frozen=True)
class Work:
    """A command that writes into the folder `out`."""

    command: str
    repeats: bool
    """Whether a second run writes the same bytes."""
    resumes: str = ""
    """What to add to the command to continue after a stop."""


# fmt: off
WORKS = {
    "convert": Work("convert --source large.safetensors --kind vae --target out/x.safetensors --force", True),
    "cache": Work("cache -c experiment.yaml --out out", True),
    "train": Work("train -c experiment.yaml --run-dir out --steps 12 --set train.checkpoint_every=2", False, "--resume auto"),
    "sample": Work(f"sample {DRAW} --steps 8 --format latents --format gif --out out", True),
    "evaluate": Work("evaluate --real videos --generated videos --metrics psnr,ssim --num-frames 2 --draws 20 --report out/report.json", True),
    "calibrate": Work(f"calibrate {DRAW} --steps 8 --samples 1 --out out/reuse.json", False),
    "bench": Work("bench -c experiment.yaml --row cache=on --steps 2 --out out/bench.json", False),
    "download": Work("convert --source hf://me/large/x.safetensors --kind vae --target out/x.safetensors --force", True),
}
# fmt: on


def code_of(number: int) -> int:
    """The exit code after a signal."""
    return 129 if number == signal.SIGHUP else 130


def start(work: Work, more: str = "") -> subprocess.Popen[bytes]:
    """Start a command in a new session."""
    command = [sys.executable, "-m", "latte_cli", *f"{work.command} {more}".split()]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def end_of(process: subprocess.Popen[bytes]) -> tuple[int, list[str]]:
    """Wait for the end. Returns the exit code and the lines of stderr."""
    _, said = process.communicate(timeout=SECONDS)
    return process.returncode, said.decode(errors="replace").splitlines()


def left_running(session: int) -> list[int]:
    """The processes of a session that still run after five seconds."""
    for _ in range(50):
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(stat.parent.name))
        if not found:
            return []
        time.sleep(0.1)
    return found


def visible(folder: Path) -> dict[str, bytes]:
    """The files that are not hidden, by name without a time; partial files are hidden."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {EVENTS.sub("tfevents", str(path.relative_to(folder))): path.read_bytes() for path in files}


def torn(folder: Path) -> str:
    """A visible file that is not complete, and why; empty if there is none."""
    for path in folder.rglob("*"):
        try:
            if path.name.startswith(".") or not path.is_file():
                continue
            if path.suffix == ".json":
                json.loads(path.read_text("utf-8"))
            elif path.suffix == ".npy":
                np.load(path)
            elif path.suffix == ".safetensors":
                load_file(path)
            elif path.suffix in (".gif", ".png"):
                Image.open(path).load()
            elif path.suffix == ".yaml":
                yaml.safe_load(path.read_text("utf-8"))
        except (OSError, ValueError, EOFError, yaml.YAMLError, SafetensorError) as error:
            return f"{path}: {error}"
    return ""


def fault_after(work: Work, process: subprocess.Popen[bytes], expected: dict[str, bytes]) -> str:
    """What is wrong in the folder `out` after a command has ended; empty if nothing is."""
    if running := left_running(process.pid):
        return f"processes {running} remain"
    if fault := torn(Path("out")):
        return f"not complete: {fault}"
    if work.repeats and work.command.split()[0] != "cache":
        for name, content in visible(Path("out")).items():
            if content != expected.get(name, content):
                return f"{name} differs from that of an uninterrupted run"
    return ""


def killed(work: Work, expected: dict[str, bytes], moment: float) -> str:
    """Kill a command. Returns what is wrong after it."""
    process = start(work, work.resumes)
    time.sleep(moment)
    process.kill()
    end_of(process)
    return fault_after(work, process, expected)


def stopped(work: Work, expected: dict[str, bytes], moment: float, number: signal.Signals) -> str:
    """Stop a command by a signal. Returns what is wrong with its messages or files."""
    process = start(work, work.resumes)
    time.sleep(moment)
    process.send_signal(number)
    code, lines = end_of(process)
    if any("Traceback" in line for line in lines):
        return f"{number.name}: a traceback: {' | '.join(lines)[-TRACEBACK:]}"
    if code not in (
        0,
        code_of(number),
        -number,
    ):  # it ended before, or Python had not yet installed its handlers
        return f"{number.name}: exit code {code}: {lines[-1:]}"
    if code == code_of(number) and sum("interrupted" in line for line in lines) != 1:
        return f"{number.name}: printed {lines[-3:]}"
    return fault_after(work, process, expected)


def tried(name: str, work: Work, kills: int) -> str:
    """Kill and stop a command. Returns what is wrong; empty if nothing is."""
    draw = random.Random(name)
    begun = time.monotonic()
    code, lines = end_of(start(work))
    if code:
        return f"the first run: {lines[-1:]}"
    uninterrupted, expected = time.monotonic() - begun, visible(Path("out"))
    shutil.rmtree("out")
    for _ in range(kills):
        if fault := killed(work, expected, draw.uniform(0.2, 1) * uninterrupted):
            return f"SIGKILL: {fault}"
    for number in SIGNALS:
        if fault := stopped(work, expected, draw.uniform(0.5, 1) * uninterrupted, number):
            return fault
    code, lines = end_of(start(work, work.resumes))
    if code:
        return f"the last run: {lines[-1:]}"
    missing = expected.keys() - visible(Path("out")).keys()
    partial = [str(path) for path in Path("out").rglob(".*")]
    return f"the last run left {partial}, without {sorted(missing)}" if partial or missing else ""


@contextmanager
def prepared(folder: Path) -> Iterator[None]:
    """Create a working folder with the commands' input, and a hub with large weights."""
    experiment(folder)
    os.chdir(folder)
    source = next((folder / "vae").glob("*.safetensors"))
    (folder / "large.safetensors").write_bytes(_padded(source))
    with small_hub() as hub:
        hub.add("me/large", {"x.safetensors": folder / "large.safetensors"})
        os.environ |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}
        yield


def _padded(source: Path) -> bytes:
    """The weights of a file with one more large tensor, which conversion ignores."""
    tensors = load_file(source) | {"loss.padding": np.zeros(WEIGHTS_BYTES // 4, np.float32)}
    target = source.with_suffix(".large")
    save_file(tensors, target)
    return target.read_bytes()


def main() -> int:
    """Parse the command line and run the cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--only", default="", help="run only commands whose name contains this")
    parser.add_argument("--kills", type=int, default=5, metavar="N", help="kills of each command")
    options = parser.parse_args()
    failed = 0
    # A shell's `&` and nohup ignore these signals, and commands would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    with tempfile.TemporaryDirectory() as scratch:
        with prepared(Path(scratch, "work")):
            for name, work in WORKS.items():
                if options.only in name:
                    fault = tried(name, work, options.kills)
                    shutil.rmtree("out", ignore_errors=True)
                    shutil.rmtree("home", ignore_errors=True)
                    print(f"{'FAILS' if fault else 'ok':5} {name}{': ' if fault else ''}{fault}", flush=True)
                    failed += bool(fault)
        os.chdir("/")
    print(f"{failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
