"""Reading frames of any kind of video by their numbers: folders of images, GIFs, and movie files (see
movie.py)."""

import re
import stat
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from latte_cli.core.errors import LatteError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
MOVIE_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm"})
GIF_SUFFIX = ".gif"
VIDEO_SUFFIXES = MOVIE_SUFFIXES | {GIF_SUFFIX}
GIF_BACKGROUND = (255, 255, 255)  # what a browser's page shows through transparent pixels
# All that Pillow raises on images that are damaged.
DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
)

Frames = NDArray[np.uint8]


class VideoError(LatteError):
    """A video that cannot be read: its path and a short reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


class ShortVideoError(VideoError):
    """A video that ends before the frame count its container states; `frames` is where."""

    def __init__(self, path: Path, stated: int, frames: int) -> None:
        super().__init__(path, f"states {stated} frames, of which only the first {frames} can be decoded")
        self.frames = frames


class Video(Protocol):
    """Frames by number. Not for two threads at once; holds no more than the frames asked for."""

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def read(self, indices: Sequence[int]) -> Frames:
        """The frames of these numbers, in this order: (N, H, W, 3) uint8 RGB. Raises VideoError."""
        ...


def open_video(path: Path) -> Video:
    """Open a folder of images, a GIF or a movie file. Raises VideoError when it is none or cannot be read."""
    suffix = path.suffix.lower()
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            return FrameFolder(path)
        check_regular(path)
        if suffix == GIF_SUFFIX:
            return Gif(path)
        if suffix in MOVIE_SUFFIXES:
            from latte_cli.core.data.videos.movie import Movie

            return Movie(path)
    except FileNotFoundError as error:
        raise VideoError(path, "no such file or folder") from error
    except OSError as error:
        raise VideoError(path, error.strerror or str(error)) from error
    raise VideoError(
        path, f"not a video: wanted a folder of images or one of {', '.join(sorted(VIDEO_SUFFIXES))}"
    )


class FrameFolder:
    """A folder of images, ordered by the last number in the file name (names without one come last, by
    name)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = sorted(list_images(path), key=_frame_order)
        if not self.files:
            raise VideoError(path, "holds no images")
        self.size = _read_image(self.files[0]).shape[:2]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def read(self, indices: Sequence[int]) -> Frames:
        """See Video.read. Raises VideoError naming a frame that differs in size from the first."""
        frames = np.empty((len(indices), *self.size, 3), np.uint8)
        for place, index in enumerate(indices):
            frame = _read_image(self.files[index])
            if frame.shape[:2] != self.size:
                found, wanted = (f"{width}x{height}" for height, width in (frame.shape[:2], self.size))
                raise VideoError(
                    self.files[index], f"is {found}, but the first frame of its folder is {wanted}"
                )
            frames[place] = frame
        return frames


class Gif:
    """An animated GIF: each frame as a viewer shows it, transparent pixels on white."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image: Any = Image.open(path, formats=["GIF"])
                self.image, self.frames = image, int(image.n_frames)
        except DAMAGED as error:
            raise VideoError(path, _image_fault(error, "a GIF")) from error

    def __len__(self) -> int:
        """Number of frames."""
        return self.frames

    def read(self, indices: Sequence[int]) -> Frames:
        """See Video.read. Decodes forward from the last frame read, or from the start when asked to go
        back."""
        width, height = self.image.size
        frames = np.empty((len(indices), height, width, 3), np.uint8)
        for place, index in sorted(enumerate(indices), key=lambda pair: pair[1]):
            try:
                self.image.seek(index)
                shown = self.image.convert("RGBA")
            except DAMAGED as error:
                raise VideoError(self.path, f"frame {index}: {_image_fault(error, 'a GIF')}") from error
            if shown.size != (width, height):
                raise VideoError(self.path, f"frame {index}: damaged: is not of the GIF's size")
            page = Image.new("RGBA", shown.size, (*GIF_BACKGROUND, 255))
            frames[place] = np.asarray(Image.alpha_composite(page, shown).convert("RGB"))
        return frames


def list_images(folder: Path) -> list[Path]:
    """The images directly in a folder, unsorted, hidden files left out."""
    return [
        path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."
    ]


def check_regular(path: Path) -> None:
    """Raise VideoError for a pipe, a socket or a device: opening one may wait forever. OSError as `stat`."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
        raise VideoError(path, f"is {kinds.get(stat.S_IFMT(mode), 'a device')}, wanted a regular file")


def _frame_order(path: Path) -> tuple[bool, int, str]:
    """Where an image comes in its folder: by the last number of its name, as a number ("frame_9" before
    "frame_10")."""
    numbers = re.findall(r"\d+", path.stem)
    return (not numbers, int(numbers[-1]) if numbers else 0, path.name)


def _read_image(path: Path) -> Frames:
    """An image as (H, W, 3) uint8. Raises VideoError."""
    try:
        check_regular(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.mode.startswith("I;16"):  # Pillow would clip 16-bit grey at 255
                    grey = (np.asarray(image) >> 8).astype(np.uint8)
                    return np.repeat(grey[..., None], 3, axis=2)
                return np.asarray(image.convert("RGB"))
    except DAMAGED as error:
        raise VideoError(path, _image_fault(error, "an image")) from error


def _image_fault(error: Exception, kind: str) -> str:
    """What Pillow found wrong, in a few words."""
    if isinstance(error, UnidentifiedImageError):
        return f"not {kind}"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"damaged: {reason.strip().splitlines()[0] if reason.strip() else 'ends early'}"
