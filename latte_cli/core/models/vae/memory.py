"""Estimate the memory of encoding and decoding, and choose the chunk size. Does not import MindSpore."""

from typing import Literal

from latte_cli.core.checkpoints.autoencoder import AutoencoderShape
from latte_cli.core.errors import LatteError
from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.machine.memory import free_memory

Work = Literal["encoding", "decoding"]
FLOAT = 4  # bytes
AT_ONCE = 1 << 30
"""Bytes of values from which larger chunks are not faster."""
MOST_FRAMES = 16
OVERHEAD = 120_000_000
"""Additional bytes for transformed filters and the compiled graph; measured with Stable Diffusion's."""


def bytes_per_frame(work: Work, shape: AutoencoderShape, height: int, width: int) -> int:
    """Peak bytes of the values of one frame (height, width in pixels).

    In decoding, the first block of the last stage has its input, the normalised input, and both branches in
    memory; in encoding, a block of the first stage.
    """
    first, second = shape.block_out_channels[:2]
    return FLOAT * height * width * (2 * (first + second) if work == "decoding" else 4 * first)


def temporal_bytes(widths: tuple[int, ...], frames: int, height: int, width: int) -> int:
    """Bytes for decoding `frames` frames together in the temporal decoder: all of them at the width of the
    last stage, and one in its widest block."""
    return FLOAT * height * width * (frames * widths[0] + 3 * (widths[0] + widths[1])) + OVERHEAD


def check_temporal(widths: tuple[int, ...], frames: int, height: int, width: int) -> None:
    """Raise LatteError if frames that are decoded together do not fit into the free memory."""
    needed, free = temporal_bytes(widths, frames, height, width), free_memory()
    if needed > free:
        raise LatteError(
            f"sample.temporal_decoder: decoding {frames} frames of {height} x {width} pixels together takes"
            f" about {needed / 1e9:.2g} GB, {free / 1e9:.2g} GB are free: expected off, or smaller frames"
        )


def frames_at_once(asked: int | Literal["auto"], a_frame: int) -> int:
    """Number of frames of `a_frame` bytes each to compute at once: as requested, else a power of two that
    fits into half of the free memory."""
    if asked != "auto":
        return asked
    fitting = max(1, min(MOST_FRAMES, AT_ONCE // a_frame, free_memory() // 2 // a_frame))
    return 1 << (fitting.bit_length() - 1)


def choose_frames(
    work: Work, shape: AutoencoderShape, size: tuple[int, int], asked: int | Literal["auto"]
) -> int:
    """`frames_at_once` for frames of `size` (height, width).

    Raises LatteError if they do not fit into the free memory, with the number that would.
    """
    a_frame, free = bytes_per_frame(work, shape, *size), free_memory()
    number = frames_at_once(asked, a_frame)
    if OVERHEAD + number * a_frame > free:
        needs = f"{described(work, shape, size, number)}; {free / 1e9:.2g} GB are free"
        raise LatteError(f"vae.chunk_frames: {needs}: {_expected(work, shape, size, free)}")
    return number


def described(work: Work, shape: AutoencoderShape, size: tuple[int, int], number: int) -> str:
    """Describe the memory for computing `number` frames of `size` at once."""
    needed = OVERHEAD + number * bytes_per_frame(work, shape, *size)
    frames = "1 frame" if number == 1 else f"{number} frames"
    return f"{work} {frames} of {size[0]} x {size[1]} pixels at a time: about {needed / 1e9:.2g} GB"


def _expected(work: Work, shape: AutoencoderShape, size: tuple[int, int], free: int) -> str:
    """What would fit: fewer frames of this size, or one smaller frame."""
    fewer = (free - OVERHEAD) // bytes_per_frame(work, shape, *size)
    if fewer >= 1:
        return f"expected at most {fewer}, or auto"
    side = VAE_FACTOR
    while OVERHEAD + bytes_per_frame(work, shape, 2 * side, 2 * side) <= free:
        side *= 2
    return f"expected frames of at most {side} x {side} pixels"
