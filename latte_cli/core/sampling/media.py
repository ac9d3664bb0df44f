"""Write clips as MP4, GIF, contact sheets and grids; equal frames give equal bytes.

Frames are uint8 RGB, (F, H, W, 3) for a clip, (N, F, H, W, 3) for several. Files are written atomically.
"""

import errno
import math
import os
import re
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latte_cli.core.errors import LatteError
from latte_cli.core.storage.files import atomic_file

Frames = NDArray[np.uint8]

MP4_QUALITY = 12  # x264's constant rate factor: 0 is lossless, 18 nearly so visually, 23 the default
SHEET_COLUMNS = 8
BORDER = 2  # pixels between the pictures of a sheet or grid
# One thread, no dates and no encoder name in the file, so that equal frames give equal bytes.
REPRODUCIBLE = ["-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1"]
NO_SEI = ["-bsf:v", "filter_units=remove_types=6"]  # H.264 unit 6 contains x264's version and options


def write_mp4(path: Path, frames: Frames, fps: float) -> None:
    """Write a clip as H.264 in MP4 (yuv420p); odd sizes are padded by repeating the last pixel.

    Raises LatteError if ffmpeg fails or the file cannot be written.
    """
    import imageio_ffmpeg

    frames = np.pad(frames, [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)], mode="edge")
    height, width = frames.shape[1:3]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-"]
    colours = [
        "-vf",
        "scale=out_color_matrix=bt709:out_range=tv",
        "-colorspace",
        "bt709",
        "-color_range",
        "tv",
    ]
    encoder = ["-c:v", "libx264", "-preset", "medium", "-crf", str(MP4_QUALITY), "-pix_fmt", "yuv420p"]
    container = [*REPRODUCIBLE, *NO_SEI, "-movflags", "+faststart", "-f", "mp4"]
    quiet = ["-y", "-loglevel", "error"]
    with atomic_file(path) as partial:
        done = subprocess.run(
            [imageio_ffmpeg.get_ffmpeg_exe(), *quiet, *source, *colours, *encoder, *container, str(partial)],
            input=np.ascontiguousarray(frames).data,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                if os.strerror(code) in said:  # above the last line, which says something else
                    raise OSError(code, os.strerror(code))
            reason = (
                re.sub(r"^\[.*? @ \w+\] ", "", said.rpartition("\n")[2]) or f"exit code {done.returncode}"
            )
            raise LatteError(f"{path}: ffmpeg cannot write it: {reason}")


def write_gif(path: Path, frames: Frames, fps: float) -> None:
    """Write a clip as a looping GIF with 256 colours per frame; delays are in hundredths of a second."""
    pictures = [Image.fromarray(frame).quantize(256, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
    with atomic_file(path) as partial:
        pictures[0].save(
            partial,
            "GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=round(1000 / fps),
            loop=0,
            disposal=2,
        )


def write_png(path: Path, picture: Frames) -> None:
    """Write an image (H, W, 3)."""
    with atomic_file(path) as partial:
        Image.fromarray(picture).save(partial, "PNG")


def contact_sheet(clips: Frames, columns: int = SHEET_COLUMNS) -> Frames:
    """An image (H, W, 3) of clips' frames (N, F, H, W, 3), in rows of `columns`; each clip starts a row."""
    num_clips, num_frames = clips.shape[:2]
    columns = min(columns, num_frames)
    rows = math.ceil(num_frames / columns)
    padded = np.full((num_clips, rows * columns, *clips.shape[2:]), 255, np.uint8)
    padded[:, :num_frames] = clips
    return _tile(padded.reshape(num_clips * rows, columns, *clips.shape[2:])[:, :, None])[0]


def grid(clips: Frames) -> Frames:
    """A clip (F, H, W, 3) that shows clips (N, F, H, W, 3) in a nearly square grid; empty cells are white."""
    num_clips = clips.shape[0]
    columns = math.ceil(math.sqrt(num_clips))
    rows = math.ceil(num_clips / columns)
    padded = np.full((rows * columns, *clips.shape[1:]), 255, np.uint8)
    padded[:num_clips] = clips
    return _tile(padded.reshape(rows, columns, *clips.shape[1:]))


def _tile(pictures: Frames) -> Frames:
    """Tile images (rows, columns, F, H, W, 3) with white borders: (F, H', W', 3)."""
    rows, columns, num_frames, height, width, _ = pictures.shape
    shape = (num_frames, rows * (height + BORDER) - BORDER, columns * (width + BORDER) - BORDER, 3)
    page = np.full(shape, 255, np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + BORDER), column * (width + BORDER)
            page[:, top : top + height, left : left + width] = pictures[row, column]
    return page
