"""How much memory encoding and decoding take, and how many frames at once that allows; no MindSpore."""

from typing import Literal

from latte_cli.core.checkpoints.autoencoder import AutoencoderShape
from latte_cli.core.errors import LatteError
from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.memory import free_memory

Work = Literal["encoding", "decoding"]
FLOAT = 4  # bytes
AT_ONCE = 1 << 30
"""Bytes of values beyond which more frames at once gain nothing."""
MOST_FRAMES = 16
OVERHEAD = 120_000_000
"""Bytes beside a frame's values: transformed filters, the compiled graph; measured, Stable Diffusion's."""


def bytes_a_frame(work: Work, shape: AutoencoderShape, height: int, width: int) -> int:
    """Bytes of the values of one frame (height, width in pixels) at the widest moment.

    Decoding: the first block of the last stage holds its input, that normalised, and both ways through it.
    Encoding: a block of the first stage likewise.
    """
    first, second = shape.block_out_channels[:2]
    return FLOAT * height * width * (2 * (first + second) if work == "decoding" else 4 * first)


def temporal_bytes(widths: tuple[int, ...], frames: int, height: int, width: int) -> int:
    """Bytes of decoding `frames` frames together over time: all of them as wide as the last stage, and one in
    its widest block."""
    return FLOAT * height * width * (frames * widths[0] + 2 * (widths[0] + widths[1])) + OVERHEAD


def check_temporal(widths: tuple[int, ...], frames: int, height: int, width: int) -> None:
    """Raise LatteError when frames that are decoded together do not fit into the free memory."""
    needed, free = temporal_bytes(widths, frames, height, width), free_memory()
    if needed > free:
        raise LatteError(
            f"sample.temporal_decoder: decoding {frames} frames of {height} x {width} pixels together takes"
            f" about {needed / 1e9:.2g} GB, {free / 1e9:.2g} GB are free: expected off, or smaller frames"
        )


def frames_at_once(asked: int | Literal["auto"], a_frame: int) -> int:
    """How many frames of `a_frame` bytes each to compute at once: as asked for, else a power of two that
    leaves half of the free memory alone."""
    if asked != "auto":
        return asked
    fitting = max(1, min(MOST_FRAMES, AT_ONCE // a_frame, free_memory() // 2 // a_frame))
    return 1 << (fitting.bit_length() - 1)


def choose_frames(
    work: Work, shape: AutoencoderShape, size: tuple[int, int], asked: int | Literal["auto"]
) -> int:
    """`frames_at_once` for frames of `size` (height, width).

    Raises LatteError when that many do not fit into the free memory, with what would.
    """
    a_frame, free = bytes_a_frame(work, shape, *size), free_memory()
    number = frames_at_once(asked, a_frame)
    if OVERHEAD + number * a_frame > free:
        needs = f"{described(work, shape, size, number)}; {free / 1e9:.2g} GB are free"
        raise LatteError(f"vae.chunk_frames: {needs}: {_expected(work, shape, size, free)}")
    return number


def described(work: Work, shape: AutoencoderShape, size: tuple[int, int], number: int) -> str:
    """A line on what computing `number` frames of `size` at once takes."""
    needed = OVERHEAD + number * bytes_a_frame(work, shape, *size)
    frames = "1 frame" if number == 1 else f"{number} frames"
    return f"{work} {frames} of {size[0]} x {size[1]} pixels at a time: about {needed / 1e9:.2g} GB"


def _expected(work: Work, shape: AutoencoderShape, size: tuple[int, int], free: int) -> str:
    """What fits: fewer frames of this size, or one smaller frame."""
    fewer = (free - OVERHEAD) // bytes_a_frame(work, shape, *size)
    if fewer >= 1:
        return f"expected at most {fewer}, or auto"
    side = VAE_FACTOR
    while OVERHEAD + bytes_a_frame(work, shape, 2 * side, 2 * side) <= free:
        side *= 2
    return f"expected frames of at most {side} x {side} pixels"
