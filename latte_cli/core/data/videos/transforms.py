"""Choose the frames of a clip and crop and resize them as the PyTorch original does, in NumPy.

Checked against recordings of Vchitect/Latte's datasets (Ma et al. 2024): TemporalRandomCrop,
CenterCropResizeVideo (Sky, Taichi) and UCFCenterCropVideo (UCF101, FaceForensics).
"""

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Transform = Literal["crop_resize", "resize_crop"]
Spacing = Literal["stride", "linspace"]


class Taps(NamedTuple):
    """Linear interpolation along one axis: output = (1 - `weight`) * `low` + `weight` * `high`."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    weight: NDArray[np.float32]


def needed_frames(num_frames: int, frame_stride: int, spacing: Spacing) -> int:
    """The minimum number of frames that a video needs for a clip.

    The original requires more than num_frames * frame_stride for Sky, and num_frames for UCF101, whose evenly
    spread frames are closer together in short videos. A clip of one frame needs one.
    """
    return num_frames if spacing == "linspace" or num_frames == 1 else num_frames * frame_stride + 1


def last_begin(total_frames: int, num_frames: int, frame_stride: int) -> int:
    """The last possible first frame of a clip; all from 0 are equally likely (TemporalRandomCrop)."""
    return max(0, total_frames - num_frames * frame_stride - 1)


def clip_indices(
    begin: int, total_frames: int, *, num_frames: int, frame_stride: int, spacing: Spacing
) -> list[int]:
    """The source frames of a clip from `begin`: every frame_stride-th, or evenly spread over its span."""
    span = num_frames * frame_stride
    if spacing == "stride":
        return list(range(begin, begin + span, frame_stride))
    last = min(begin + span, total_frames) - 1
    return [int(index) for index in np.linspace(begin, last, num_frames, dtype=np.int64)]


def to_pixels(
    frames: NDArray[np.uint8], image_size: int, transform: Transform, *, mirror: bool
) -> NDArray[np.float32]:
    """Crop and resize frames to squares, optionally mirrored first.

    frames: (N, H, W, 3) uint8. Returns (N, 3, image_size, image_size) float32 in [-1, 1].
    """
    if mirror:
        frames = frames[:, :, ::-1]
    rows, columns = square_taps(frames.shape[1], frames.shape[2], image_size, transform)
    left, right = int(columns.low.min()), int(columns.high.max()) + 1
    pixels = np.empty((len(frames), 3, image_size, image_size), np.float32)
    for number, frame in enumerate(frames[:, :, left:right]):  # single frames fit the CPU cache
        out = pixels[number]
        tall = frame[rows.low] * (1 - rows.weight)[:, None, None]
        tall += frame[rows.high] * rows.weight[:, None, None]
        planes = np.ascontiguousarray(tall.transpose(2, 0, 1))
        np.take(planes, columns.low - left, axis=2, out=out, mode="clip")
        out *= 1 - columns.weight
        out += planes[:, :, columns.high - left] * columns.weight
        out *= np.float32(2 / 255)
        out -= np.float32(1)
    return pixels


def to_uint8(frames: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Convert frames (..., 3, H, W) in [-1, 1] to pixels (..., H, W, 3), rounded as in the original."""
    pixels = (frames * 0.5 + 0.5) * 255 + 0.5
    return np.moveaxis(pixels.clip(0, 255).astype(np.uint8), -3, -1)


@lru_cache(maxsize=256)
def square_taps(height: int, width: int, image_size: int, transform: Transform) -> tuple[Taps, Taps]:
    """The taps of the rows and columns that crop and resize a frame to image_size."""
    short = min(height, width)
    if transform == "crop_resize":
        rows, columns = (
            taps(
                short,
                image_size,
                scale=np.float32(short) / np.float32(image_size),
                offset=_centre(side, short),
            )
            for side in (height, width)
        )
        return rows, columns
    factor = image_size / short
    rows, columns = (
        _cut(
            taps(side, resized, scale=np.float32(1 / factor), offset=0),
            _centre(resized, image_size),
            image_size,
        )
        for side, resized in ((side, max(image_size, int(side * factor))) for side in (height, width))
    )
    return rows, columns


def taps(source: int, target: int, *, scale: np.float32, offset: int) -> Taps:
    """Bilinear interpolation of `source` pixels to `target`, as torch's interpolate(align_corners=False)
    without antialiasing.

    scale: source pixels per target pixel. offset: added to the source indices. torch computes the position of
    a target pixel in float32 with one rounding (a fused multiply-add), which matters beyond 100 pixels.
    """
    place = (np.float64(scale) * (np.arange(target) + 0.5) - 0.5).astype(np.float32).clip(0, None)
    low = np.minimum(place.astype(np.int64), source - 1)
    weight: NDArray[np.float32] = (place - low.astype(np.float32)).clip(0, 1)
    return Taps(low + offset, np.minimum(low + 1, source - 1) + offset, weight)


def _centre(side: int, part: int) -> int:
    """Start of a centred crop; halves are rounded to even, like Python's round in the original."""
    return round((side - part) / 2)


def _cut(whole: Taps, begin: int, length: int) -> Taps:
    """The taps of a slice of the output."""
    part = slice(begin, begin + length)
    return Taps(whole.low[part], whole.high[part], whole.weight[part])
