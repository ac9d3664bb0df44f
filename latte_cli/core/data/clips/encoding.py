"""Encode the frames of many videos in full batches that may span several videos."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from latte_cli.core.arrays import Array
from latte_cli.core.data.clips.ahead import Piece
from latte_cli.core.latents import LOGVAR_RANGE


@dataclass(frozen=True)
class Encoded:
    """Moments of consecutive frames of a video, or its last piece, with its end or failure."""

    piece: Piece
    moments: Array | None = None
    """(n, 8, h, w): for each frame its copies in order."""


def encode_full_batches(
    pieces: Iterable[Piece], encode: Callable[[Array], Array], batch: int
) -> Iterator[Encoded]:
    """Encode pieces in order, `batch` images at a time; the last batch is padded with repeats.

    encode: (batch, 3, H, W) to (batch, 8, h, w). A video's end follows its last moments; if a video fails,
    its frames not yet encoded are dropped.
    """
    waiting: deque[tuple[Piece, Array | None]] = deque()
    images = 0
    for piece in pieces:
        if piece.frames is not None:
            flat = piece.frames.reshape(-1, *piece.frames.shape[2:])
            waiting.append((piece, flat))
            images += len(flat)
        else:
            if piece.fault is not None:
                kept = [item for item in waiting if item[1] is None or item[0].video is not piece.video]
                waiting = deque(kept)
                images = sum(len(flat) for _, flat in waiting if flat is not None)
            waiting.append((piece, None))
        while images >= batch:
            yield from _encode(waiting, encode, batch)
            images -= batch
        yield from _ends(waiting)
    if images:
        yield from _encode(waiting, encode, batch)
    yield from _ends(waiting)


def draw_latents(moments: Array, eps: Array, scaling_factor: float) -> Array:
    """Sample scaled latents from moments: (mean + exp(logvar / 2) eps) scaling_factor.

    moments: (..., 8, h, w); eps: (..., 4, h, w) standard normal. Returns (..., 4, h, w) float32. The
    log-variance is clipped to LOGVAR_RANGE.
    """
    mean, log_variance = np.split(moments.astype(np.float32), 2, axis=-3)
    return (mean + np.exp(0.5 * np.clip(log_variance, *LOGVAR_RANGE)) * eps) * np.float32(scaling_factor)


def _encode(
    waiting: "deque[tuple[Piece, Array | None]]", encode: Callable[[Array], Array], batch: int
) -> Iterator[Encoded]:
    """Encode one batch from the front of the queue, yielding the ends of videos in between."""
    taken: list[tuple[Piece, Array | None]] = []
    count = 0
    while waiting and count < batch:
        piece, flat = waiting.popleft()
        if flat is not None and count + len(flat) > batch:
            waiting.appendleft((piece, flat[batch - count :]))
            flat = flat[: batch - count]
        count += 0 if flat is None else len(flat)
        taken.append((piece, flat))
    full = np.concatenate([flat for _, flat in taken if flat is not None])
    if count < batch:
        full = np.concatenate([full, np.repeat(full[-1:], batch - count, axis=0)])
    moments = encode(full)
    place = 0
    for piece, flat in taken:
        if flat is None:
            yield Encoded(piece)
        else:
            yield Encoded(piece, moments[place : place + len(flat)])
            place += len(flat)


def _ends(waiting: "deque[tuple[Piece, Array | None]]") -> Iterator[Encoded]:
    """The ends of videos at the front of the queue."""
    while waiting and waiting[0][1] is None:
        yield Encoded(waiting.popleft()[0])
