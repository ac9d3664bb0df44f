"""Commands on machines with faults: python tests/hostile/machines.py [--only WORD].

In each case one command runs where a disk is full, a folder cannot be written to, a terminal is narrow or
closed, or a variable is missing. The command must end within TIMEOUT with the expected exit code and text,
and without a traceback. Exit code 1 if a case fails. docs/security.md lists the cases.
"""

import argparse
import fcntl
import os
import pty
import resource
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

GOLDEN = Path(__file__).parents[1] / "golden"
TIMEOUT = 900  # seconds per command, on a busy machine
EXPERIMENT = f"""
run_dir: run
device: cpu
data: {{root: videos, image_size: 32, num_frames: 2, frame_stride: 1}}
vae: {{weights: {GOLDEN / "vae" / "diffusers"}}}
model: {{hidden_size: 24, depth: 2, num_heads: 3, patch_size: 2}}
train: {{batch_size: 1, steps: 2, log_every: 1, dtype: float32}}
cache: {{dir: latents}}
"""


class Ended(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str = ""

    @property
    def last(self) -> str:
        """The last line of stderr."""
        return self.err.splitlines()[-1] if self.err else ""


def latte(*arguments: str, limit: Callable[[], None] | None = None, **environment: str | None) -> Ended:
    """Run a command to its end. A variable that is None is removed from the environment."""
    variables = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, "-m", "latte_cli", *arguments],
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        timeout=TIMEOUT,
        preexec_fn=limit,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def shell(line: str) -> Ended:
    """Run a line of bash in which `latte` is this program; of a pipe, the first command's exit code."""
    text = f'latte() {{ "{sys.executable}" -m latte_cli "$@"; }}\n{line}\nexit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def on_terminal(columns: int, *arguments: str, **environment: str) -> Ended:
    """Run a command in a terminal of this width."""
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        command = [sys.executable, "-m", "latte_cli", *arguments]
        os.execve(sys.executable, command, {**os.environ, "TERM": "xterm", **environment})
    shown = b""
    while True:
        try:
            read = os.read(terminal, 65536)
        except OSError:  # the other end has closed
            break
        shown += read
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return Ended(os.waitstatus_to_exitcode(status), shown.decode(errors="replace"))


@contextmanager
def full_disk(place: Path, kilobytes: int) -> Iterator[None]:
    """Mount a file system of this size at `place`."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def cache_on_a_full_disk() -> str:
    with full_disk(Path("full"), 16):
        ended = latte("cache", "--out", "full/latents")
        said = expect(ended, 1, "No space left on device")
    again = latte("cache")  # on a disk with room
    return said or expect(again, 0, "failed 0 videos", stream="out")


def training_on_a_full_disk() -> str:
    with full_disk(Path("full"), 16):
        return expect(latte("train", "--run-dir", "full/run", "--set", "cache.dir=null"), 1, "No space left")


def file_size_limit() -> str:
    """Like `ulimit -f` or a quota."""
    return expect(
        latte("cache", limit=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))), 1, "too large"
    )


def read_only_run() -> str:
    with full_disk(Path("run"), 64):
        subprocess.run(["mount", "-o", "remount,ro", "run"], check=True)
        ended = latte("train", "--set", "cache.dir=null")
    return expect(ended, 1, "run_dir: run: cannot be written to: Read-only file system")


def no_temporary_folder() -> str:
    return expect(
        latte("bench", "--row", "cache=on", "--steps", "1", TMPDIR="/nowhere"), 0, "synthetic", "out"
    )


def no_home() -> str:
    ended = latte("cache", HOME=None, XDG_CACHE_HOME=None)
    return expect(ended, 0, "save 2 videos, failed 0 videos", stream="out")


def home_that_cannot_be_written_to() -> str:
    ended = latte("cache", HOME="/proc/nowhere", XDG_CACHE_HOME=None)
    return expect(ended, 0, "save 2 videos, failed 0 videos", stream="out")


def narrow_terminal() -> str:
    ended = on_terminal(20, "cache")
    return expect(ended, 0, "save 2 videos, failed 0 videos", stream="out")


def no_colour() -> str:
    ended = on_terminal(80, "cache", NO_COLOR="1")
    coloured = "colours" if "\x1b[3" in ended.out or "\x1b[9" in ended.out else ""
    return coloured or expect(ended, 0, "save 2 videos", stream="out")


def dumb_terminal() -> str:
    return expect(on_terminal(80, "cache", TERM="dumb"), 0, "save 2 videos", stream="out")


def locale_of_ascii() -> str:
    Path("videos").rename("vidéos")
    ended = latte("cache", "--data", "vidéos", "--out", "é", LC_ALL="C", LANG="C")
    return expect(ended, 0, "save 2 videos", stream="out")


def stdout_of_ascii() -> str:
    Path("videos").rename("vidéos")
    arguments = ("train", "--dry-run", "--data", "vidéos", "--run-dir", "é", "--set", "cache.dir=null")
    return expect(latte(*arguments, PYTHONIOENCODING="ascii"), 0, "vid", stream="out")


def reader_that_ends_early() -> str:
    ended = shell("latte train --dry-run --set cache.dir=null | head -1")
    return "" if ended.code in (0, 1) and not ended.err else f"{ended.code}: {ended.err}"


def full_stdout() -> str:
    return expect(shell("latte configs sky > /dev/full"), 1, "No space left on device")


def closed_streams() -> str:
    first = shell("latte cache <&- >&- 2>&-")
    return (
        f"{first.code}" if first.code else expect(latte("cache", "--verify"), 0, "all intact", stream="out")
    )


def deleted_working_folder() -> str:
    ended = shell("mkdir gone; cd gone; rmdir ../gone; latte train --dry-run")
    return expect(ended, 1, "")


def two_runs_in_one_folder() -> str:
    arguments = [sys.executable, "-m", "latte_cli", "train", "--set", "cache.dir=null", "--steps", "100000"]
    first = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + TIMEOUT
        while not Path("run/lock").exists() and time.monotonic() < end:
            time.sleep(0.1)
        return expect(
            latte("train", "--set", "cache.dir=null"), 1, "run: another latte train is running in this folder"
        )
    finally:
        first.kill()
        first.wait()


CASES = {
    "a cache on a full disk": cache_on_a_full_disk,
    "a run on a full disk": training_on_a_full_disk,
    "a limit on the size of files": file_size_limit,
    "a run folder that is read-only": read_only_run,
    "no folder for temporary files": no_temporary_folder,
    "HOME is not set": no_home,
    "HOME cannot be written to": home_that_cannot_be_written_to,
    "a terminal of 20 columns": narrow_terminal,
    "NO_COLOR": no_colour,
    "TERM=dumb": dumb_terminal,
    "LANG=C": locale_of_ascii,
    "stdout that takes only ASCII": stdout_of_ascii,
    "a reader of stdout that ends early": reader_that_ends_early,
    "stdout that is full": full_stdout,
    "stdin, stdout and stderr are closed": closed_streams,
    "a working folder that was deleted": deleted_working_folder,
    "two runs in one folder at once": two_runs_in_one_folder,
}


def expect(ended: Ended, code: int, text: str, stream: str = "err") -> str:
    """What is wrong with a command's exit code or output; empty if nothing is."""
    found = ended.last if stream == "err" else ended.out
    if "Traceback" in ended.err + ended.out:
        return f"a traceback: {ended.last or ended.out[-300:]}"
    if ended.code != code:
        return f"exit code {ended.code}: {ended.last or ended.out[-300:]}"
    return "" if text in found else f"said {found!r}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--only", default="", help="run only cases whose name contains this")
    only = parser.parse_args().only
    failed = 0
    for name, case in CASES.items():
        if only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            random = np.random.default_rng(0)
            for video in ("one", "two"):
                Path("videos", video).mkdir(parents=True)
                for number in range(4):
                    pixels = random.integers(0, 256, (32, 40, 3), np.uint8)
                    Image.fromarray(pixels).save(f"videos/{video}/{number}.png")
            Path("latte.yaml").write_text(EXPERIMENT)
            try:
                fault = case()
            except (subprocess.SubprocessError, OSError) as error:
                fault = f"cannot be tried: {error}"
            os.chdir("/")
        print(f"{'FAILS' if fault else 'ok':5} {name}{': ' if fault else ''}{fault}", flush=True)
        failed += bool(fault)
    print(f"{failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
