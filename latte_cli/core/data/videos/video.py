"""The interface of all types of videos: frames by index, or an error with a short reason."""

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.errors import LatteError

Frames = NDArray[np.uint8]


class VideoError(LatteError):
    """A video that cannot be read: its path and a short reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


class ShortVideoError(VideoError):
    """A video that has fewer frames than its container states: `frames`."""

    def __init__(self, path: Path, stated: int, frames: int) -> None:
        super().__init__(path, f"states {stated} frames, but only the first {frames} can be decoded")
        self.frames = frames


class Video(Protocol):
    """Frames by index. Not thread-safe; keeps only the requested frames in memory."""

    def __len__(self) -> int:
        """Number of frames."""
        ...

    def read(self, indices: Sequence[int]) -> Frames:
        """Frames by index, in this order: (N, H, W, 3) uint8 RGB. Raises VideoError."""
        ...


def check_regular(path: Path) -> None:
    """Raise VideoError for a pipe, socket or device, which may block forever; OSError like `stat`."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
        raise VideoError(path, f"is {kinds.get(stat.S_IFMT(mode), 'a device')}, expected a regular file")
