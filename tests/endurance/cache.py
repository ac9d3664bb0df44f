"""`latte cache` killed or on full disks: python tests/endurance/cache.py --kills 50 (see --help). Exit code 1
if a case fails.

The encoder is a slow substitute (the means of blocks of pixels), because the cache is tested and not the
autoencoder. Each round starts from nothing, is killed by SIGKILL at a random moment, runs again to its end,
and is compared with an uninterrupted run: the bytes of numpy caches, the rows of MindRecord caches.
"""

import argparse
import logging
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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latte_cli.core.data.latent_cache import plan as cache_plan
from latte_cli.core.data.latent_cache.manifest import read_manifest
from latte_cli.core.data.latent_cache.mindrecord import read_rows, write_shard
from latte_cli.core.errors import LatteError
from latte_cli.core.recipes import cache
from latte_cli.core.settings.schema import CacheSettings, DataSettings, Settings, VaeSettings

CHUNK = 8
SECONDS_A_BATCH = 0.01
SHARD_BYTES = 30_000


def encode(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Moments (N, 8, h, w) of frames (N, 3, H, W), computed slowly."""
    time.sleep(SECONDS_A_BATCH)
    side = frames.shape[-1] // 8
    means = frames.reshape(len(frames), 3, side, 8, side, 8).mean((3, 5))
    return np.concatenate([means, means - 1, means[:, :2] - 2], axis=1).astype(np.float32)


def make_videos(root: Path, count: int, *, corrupt_every: int = 0) -> None:
    """Write folders of frames; every `corrupt_every`-th contains one that cannot be read."""
    generator = np.random.default_rng(0)
    for number in range(count):
        folder = root / f"v{number}"
        folder.mkdir(parents=True)
        for frame in range(int(generator.integers(10, 60))):
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{frame}.bmp")
        if corrupt_every and number % corrupt_every == corrupt_every - 1:
            (folder / "7.bmp").write_bytes(b"torn")
    (root.parent / "vae.ckpt").write_bytes(b"weights")


def settings_for(root: Path, out: Path, kind: Any) -> Settings:
    """The experiment of every run."""
    return Settings(
        data=DataSettings(root=root, image_size=16, num_frames=4, frame_stride=2),
        vae=VaeSettings(weights=str(root.parent / "vae.ckpt"), chunk_frames=CHUNK),
        cache=CacheSettings(dir=out, type=kind),
    )


def run_here(root: Path, out: Path, kind: str) -> str:
    """Run in this process. Returns the error that ended it, if any."""
    cache_plan.SHARD_BYTES = SHARD_BYTES
    try:
        for _ in cache.CacheRun(settings_for(root, out, kind), encode=encode):
            pass
    except LatteError as error:
        return str(error)
    return ""


def content(folder: Path) -> dict[str, Any]:
    """The content of a cache: the bytes of its files, and the rows of its shards."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".mindrecord":
            from mindspore.mindrecord import FileReader

            reader = FileReader(str(path))
            rows = reader.len()
            reader.close()
            found[path.name] = read_rows(path, range(rows))
        elif path.is_file() and path.suffix not in {".db", ".sums"}:
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def kills(kind: str, rounds: int, work: Path, *, corrupt_every: int, seed: int) -> bool:
    """Whether every killed run, run again, leaves the cache of an uninterrupted run."""
    root = work / "root"
    make_videos(root, 30, corrupt_every=corrupt_every)
    run_here(root, work / "uninterrupted", kind)
    expected, generator = content(work / "uninterrupted"), random.Random(seed)
    began: list[int] = []
    command = [sys.executable, __file__, "--child", str(root), str(work / "killed"), kind]
    seconds = _alone(command)
    for number in range(rounds):
        shutil.rmtree(work / "killed", ignore_errors=True)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        process.stdout.readline()  # the run has started
        time.sleep(generator.uniform(0, seconds))
        process.send_signal(signal.SIGKILL)
        process.wait()
        began.append(len(read_manifest(work / "killed")))
        run_here(root, work / "killed", kind)
        equal = content(work / "killed") == expected
        said = f"{kind}: round {number}, killed after {began[-1]} videos: "
        print(f"ok    {said}equal" if equal else f"FAILS {said}another cache", flush=True)
        if not equal:
            return False
    videos = len(read_manifest(work / "uninterrupted"))
    print(f"{kind}: {rounds} runs killed after {min(began)} to {max(began)} of {videos} videos")
    return True


def _alone(command: list[str]) -> float:
    """Seconds of an uninterrupted run, without its start."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        begun = time.monotonic()
        process.wait()
    return time.monotonic() - begun


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """Mount a disk of this size; needs root."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def full_disk(kind: str, work: Path) -> bool:
    """Whether a run on a full disk reports it, and completes the same cache when the disk is larger."""
    root = work / "root"
    make_videos(root, 30)
    run_here(root, work / "uninterrupted", kind)
    disk = work / "disk"
    for kilobytes in (40, 100, 400, 3000, 12_000):
        with small_disk(disk, kilobytes):
            error = run_here(root, disk / "cache", kind)
            done = len(read_manifest(disk / "cache"))
            if error and not re.search(
                "cannot be written: .*; finished entries are kept: run the same command", error
            ):
                print(f"FAILS {kind}: a disk of {kilobytes} kB: {error}")
                return False
            subprocess.run(["mount", "-o", f"remount,size={200_000}k", str(disk)], check=True)
            run_here(root, disk / "cache", kind)
            if content(disk / "cache") != content(work / "uninterrupted"):
                print(f"FAILS {kind}: a disk of {kilobytes} kB: another cache")
                return False
        disk.rmdir()
        said = f"{kind}: a disk of {kilobytes} kB, full after {done} videos: {error or 'large enough'}"
        print(f"ok    {said}", flush=True)
    return True


def long_video(work: Path) -> bool:
    """Whether the moments of 20,000 frames of 256 pixels are read from a shard as they were written."""
    generator = np.random.default_rng(0)
    values = generator.standard_normal((20_000, 8, 32, 32), dtype=np.float32)
    rows = (109, 45)
    begun = time.monotonic()
    first = write_shard(work / "shard-00000.mindrecord", [("long", values)], rows)
    written = time.monotonic() - begun
    for place, start in enumerate(range(0, 20_000 - 45, 64)):
        name, frame, latents = read_rows(work / "shard-00000.mindrecord", [first["long"] + place])[0]
        if (name, frame) != ("long", start) or latents != values[start : start + 109].tobytes():
            print(f"long video: row {place} differs")
            return False
    print(
        f"long video: 20,000 frames, {values.nbytes / 2**20:.0f} MiB, written in {written:.1f} s, unchanged"
    )
    return True


def main() -> int:
    """Parse the command line and run the cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="rounds of SIGKILL, for each type")
    parser.add_argument(
        "--corrupt-every", type=int, default=0, metavar="N", help="make every N-th video fail"
    )
    parser.add_argument("--full-disk", action="store_true", help="small disks that fill up (needs root)")
    parser.add_argument("--long-video", action="store_true", help="20,000 frames through MindRecord (1.5 GB)")
    parser.add_argument("--type", choices=["numpy", "mindrecord"], action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        if options.child[2] == "mindrecord":
            import mindspore.mindrecord  # noqa: F401 (before the clock starts)
        os.write(1, b"begun\n")
        run_here(Path(options.child[0]), Path(options.child[1]), options.child[2])
        return 0
    logging.disable(logging.WARNING)  # about videos that fail on purpose
    held = True
    for kind in options.type or ["numpy", "mindrecord"]:
        if options.kills:
            with tempfile.TemporaryDirectory() as work:
                held &= kills(
                    kind, options.kills, Path(work), corrupt_every=options.corrupt_every, seed=options.seed
                )
        if options.full_disk:
            with tempfile.TemporaryDirectory() as work:
                held &= full_disk(kind, Path(work))
    if options.long_video:
        with tempfile.TemporaryDirectory() as work:
            held &= long_video(Path(work))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
