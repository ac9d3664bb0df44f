"""Find the nearest real clip of every generated clip, with few clips in memory at a time."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from latte_cli.core.evaluate.clips import Frames, Place
from latte_cli.core.evaluate.frames import squares
from latte_cli.core.evaluate.pixels import psnr, squared_distances, ssim
from latte_cli.core.evaluate.protocol import Protocol

GENERATED_BYTES = 1 << 29  # of generated clips compared in one pass over the real ones
REAL_CLIPS = 16  # compared at a time


class Likeness(NamedTuple):
    """PSNR in dB, and optionally SSIM, of a generated clip and its nearest real clip (squared distance)."""

    psnr: float
    ssim: float


class SearchStep(NamedTuple):
    """Clips read so far and in total; at the end the likeness of each generated clip."""

    done: int
    total: int
    found: tuple[Likeness, ...] = ()


def likenesses(
    generated: Sequence[Place], real: Sequence[Place], size: int, protocol: Protocol
) -> Iterator[SearchStep]:
    """Compare clips of the same size; the last step has the results."""
    clip_bytes = protocol.num_frames * size * size * 3
    at_once = max(1, GENERATED_BYTES // clip_bytes)
    passes = -(-len(generated) // at_once)
    total, done = len(generated) + passes * len(real), 0
    found: list[Likeness] = []
    for start in range(0, len(generated), at_once):
        part = np.stack(
            [squares(place, size, protocol, generated=True) for place in generated[start : start + at_once]]
        )
        done += len(part)
        yield SearchStep(done, total)
        least = np.full(len(part), np.iinfo(np.int64).max)
        nearest: list[Frames] = [part[0]] * len(part)
        for first in range(0, len(real), REAL_CLIPS):
            block = [
                squares(place, size, protocol, generated=False) for place in real[first : first + REAL_CLIPS]
            ]
            distances = squared_distances(part, np.stack(block))
            for row, column in enumerate(distances.argmin(axis=1)):
                if distances[row, column] < least[row]:
                    least[row], nearest[row] = distances[row, column], block[column]
            done += len(block)
            yield SearchStep(done, total)
        wants_ssim = "ssim" in protocol.metrics
        found += [
            Likeness(psnr(int(distance), clip.size), ssim(clip, other) if wants_ssim else float("nan"))
            for clip, other, distance in zip(part, nearest, least, strict=True)
        ]
    yield SearchStep(total, total, tuple(found))
