"""Videos made of images: folders of frames, and GIFs."""

import os
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from latte_cli.core.data.videos.folders import Folder, frame_order, list_folder, list_images
from latte_cli.core.data.videos.video import Frames, VideoError, check_regular

GIF_BACKGROUND = (255, 255, 255)  # shown through transparent pixels, as in a browser
# All exceptions that Pillow raises for damaged images.
DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
)


class FrameFolder:
    """A folder of images, ordered by the last number in the file name; names without one come last."""

    def __init__(self, path: Path, folder: Folder | None = None) -> None:
        """folder: the result of `list_folder`, if known. Raises VideoError and OSError."""
        self.path = path
        folder = folder or list_folder(path)
        if not folder.images:
            raise VideoError(path, "contains no images")
        self.frames = folder.images
        self.size = read_image(path / folder.first_image).shape[:2]
        self.names = np.empty(0, "S1")  # bytes need a tenth of the memory of paths; filled by read

    def __len__(self) -> int:
        """Number of images."""
        return self.frames

    def read(self, indices: Sequence[int]) -> Frames:
        """See Video.read. Raises VideoError if a frame differs in size from the first."""
        if not len(self.names):
            self.names = self._list()
        if (last := max(indices, default=0)) >= self.frames:
            raise VideoError(self.path, f"has only {self.frames} frames, not frame {last}")
        frames = np.empty((len(indices), *self.size, 3), np.uint8)
        for place, index in enumerate(indices):
            path = self.path / os.fsdecode(self.names[index])
            frame = read_image(path)
            if frame.shape[:2] != self.size:
                found, expected = (f"{width}x{height}" for height, width in (frame.shape[:2], self.size))
                raise VideoError(path, f"is {found}, but the first frame of its folder is {expected}")
            frames[place] = frame
        return frames

    def _list(self) -> NDArray[np.bytes_]:
        """The names of the images in order. Raises VideoError."""
        try:
            names = sorted((entry.name for entry in list_images(self.path)), key=frame_order)
        except OSError as error:
            raise VideoError(self.path, error.strerror or str(error)) from error
        if len(names) != self.frames:
            raise VideoError(self.path, f"had {self.frames} frames and now has {len(names)}")
        return np.array([os.fsencode(name) for name in names])


class Gif:
    """An animated GIF, with frames as shown by a viewer, transparent pixels on white."""

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
        """See Video.read. Decodes forward from the last frame read, or from the start to go back."""
        width, height = self.image.size
        frames = np.empty((len(indices), height, width, 3), np.uint8)
        for place, index in sorted(enumerate(indices), key=lambda pair: pair[1]):
            try:
                self.image.seek(index)
                shown = self.image.convert("RGBA")
            except DAMAGED as error:
                raise VideoError(self.path, f"frame {index}: {_image_fault(error, 'a GIF')}") from error
            if shown.size != (width, height):
                raise VideoError(self.path, f"frame {index}: damaged: its size differs from the GIF's")
            page = Image.new("RGBA", shown.size, (*GIF_BACKGROUND, 255))
            frames[place] = np.asarray(Image.alpha_composite(page, shown).convert("RGB"))
        return frames


def read_image(path: Path) -> Frames:
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
    """A short description of Pillow's error."""
    if isinstance(error, UnidentifiedImageError):
        return f"not {kind}"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"damaged: {reason.strip().splitlines()[0] if reason.strip() else 'ends early'}"
