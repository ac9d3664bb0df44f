"""Commands killed and stopped at random moments: python tests/hostile/stops.py [--only WORD] [--kills N].

Each command is killed with SIGKILL at random moments, then stopped by Ctrl-C, SIGTERM and SIGHUP, one each. After
every end, all visible files of its output are complete, those that a run always writes alike have the same bytes
as those of a run left alone, no process of its session is left, and a last run leaves every file and no partial
one. A signal is one line and its exit code. Exit 1 when a case fails.
"""

import argparse
import json
import os
import random
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
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from small_hub import small_hub

SECONDS = 600  # of one command, on a machine with much else to do
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DRAW = "--device cpu --pipeline pipeline --prompt x --prompt y"
WEIGHTS_BYTES = 40 << 20  # that convert reads and a download fetches


@dataclass(frozen=True)
class Work:
    """A command that takes a while, which writes into the folder out."""

    command: str
    repeats: bool
    """Whether a second run writes the same bytes."""
    resumes: str = ""
    """What is added to go on after it was stopped."""


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
    """Start a command in a session of its own."""
    command = [sys.executable, "-m", "latte_cli", *f"{work.command} {more}".split()]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def end_of(process: subprocess.Popen[bytes]) -> tuple[int, list[str]]:
    """The exit code and the lines of stderr."""
    _, said = process.communicate(timeout=SECONDS)
    return process.returncode, said.decode(errors="replace").splitlines()


def left_running(session: int) -> list[int]:
    """The processes of a session that still run after a moment."""
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
    """The files that do not look partial, by name."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def torn(folder: Path) -> str:
    """The name of a visible file that is not complete."""
    for path in folder.rglob("*"):
        try:
            if path.name.startswith(".") or not path.is_file():
                continue
            if path.suffix == ".json":
                json.loads(path.read_text("utf-8"))
            elif path.suffix == ".npy":
                np.load(path)
            elif path.suffix in (".gif", ".png"):
                Image.open(path).load()
            elif path.suffix == ".yaml":
                yaml.safe_load(path.read_text("utf-8"))
        except (OSError, ValueError, EOFError, yaml.YAMLError) as error:
            return f"{path}: {error}"
    return ""


def fault_after(work: Work, process: subprocess.Popen[bytes], expected: dict[str, bytes]) -> str:
    """What is wrong in the folder out after a command has ended."""
    if running := left_running(process.pid):
        return f"processes {running} are left"
    if fault := torn(Path("out")):
        return f"torn: {fault}"
    if work.repeats and work.command.split()[0] != "cache":
        for name, content in visible(Path("out")).items():
            if content != expected.get(name, content):
                return f"{name} differs from that of a run left alone"
    return ""


def killed(work: Work, expected: dict[str, bytes], moment: float) -> str:
    """Kill once, and see what is left."""
    process = start(work, work.resumes)
    time.sleep(moment)
    process.kill()
    end_of(process)
    return fault_after(work, process, expected)


def stopped(work: Work, expected: dict[str, bytes], moment: float, number: signal.Signals) -> str:
    """Stop once by a signal, and see what is said and left."""
    process = start(work, work.resumes)
    time.sleep(moment)
    process.send_signal(number)
    code, lines = end_of(process)
    if any("Traceback" in line for line in lines):
        return f"{number.name}: a traceback: {lines[-1]}"
    if code not in (0, code_of(number), -number):  # ended before, or not yet in Python's hands
        return f"{number.name}: exit code {code}: {lines[-1:]}"
    if code == code_of(number) and sum("interrupted" in line for line in lines) != 1:
        return f"{number.name}: said {lines[-3:]}"
    return fault_after(work, process, expected)


def tried(name: str, work: Work, kills: int) -> str:
    """What is wrong with a command that is killed and stopped; nothing if all holds."""
    draw = random.Random(name)
    begun = time.monotonic()
    code, lines = end_of(start(work))
    if code:
        return f"cannot be tried: {lines[-1:]}"
    alone, expected = time.monotonic() - begun, visible(Path("out"))
    shutil.rmtree("out")
    for _ in range(kills):
        if fault := killed(work, expected, draw.uniform(0.2, 1) * alone):
            return f"SIGKILL: {fault}"
    for number in SIGNALS:
        if fault := stopped(work, expected, draw.uniform(0.5, 1) * alone, number):
            return fault
    code, lines = end_of(start(work, work.resumes))
    if code:
        return f"the last run: {lines[-1:]}"
    missing = expected.keys() - visible(Path("out")).keys()
    partial = [str(path) for path in Path("out").rglob(".*")]
    return f"the last run left {partial}, without {sorted(missing)}" if partial or missing else ""


@contextmanager
def prepared(folder: Path) -> Iterator[None]:
    """A working folder with what the commands read, and a hub that publishes large weights."""
    experiment(folder)
    os.chdir(folder)
    source = next((folder / "vae").glob("*.safetensors"))
    (folder / "large.safetensors").write_bytes(_padded(source))
    with small_hub() as hub:
        hub.add("me/large", {"x.safetensors": folder / "large.safetensors"})
        os.environ |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}
        yield


def _padded(source: Path) -> bytes:
    """The weights of a file with another tensor of some size, which conversion ignores."""
    from safetensors.numpy import load_file

    tensors = load_file(source) | {"loss.padding": np.zeros(WEIGHTS_BYTES // 4, np.float32)}
    target = source.with_suffix(".large")
    save_file(tensors, target)
    return target.read_bytes()


def main() -> int:
    """Parse the command line and try."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--only", default="", help="try the commands whose name holds this")
    parser.add_argument("--kills", type=int, default=5, metavar="N", help="of each command")
    options = parser.parse_args()
    failed = 0
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # `&` and nohup ignore these, also in the commands
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
