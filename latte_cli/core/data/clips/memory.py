"""Clips from moments that are encoded once and kept in memory; each worker encodes a share.

A video counts as ending before the first frames that cannot be read. Clips that need later ones are replaced,
as they are when training reads the videos themselves.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from latte_cli.core.arrays import Array
from latte_cli.core.data.clips.batches import ClipSource, Content
from latte_cli.core.data.videos.video import ShortVideoError, VideoError
from latte_cli.core.storage.files import atomic_file

_NOTHING = np.empty(0, np.float32)


class Stretch(NamedTuple):
    """Frames of a video that are encoded together."""

    video: int
    mirror: bool
    first: int
    end: int


class MemorySource:
    """The autoencoder's moments of another source's videos. See batches.ClipSource."""

    content: Content = "moments"

    def __init__(self, source: ClipSource, *, mirrored: bool = False, chunk: int = 8):
        """`chunk`: frames encoded together; mirrored: also encode every video's mirror image."""
        self.names, self.frames, self.labels = source.names, source.frames, source.labels
        self.source = source
        self.pieces = [
            Stretch(video, mirror, first, min(first + chunk, length))
            for mirror in ((False, True) if mirrored else (False,))
            for video, length in enumerate(self.frames)
            for first in range(0, length, chunk)
        ]
        self.parts: dict[Stretch, Array] = {}
        """Shorter than its stretch where the video ends early."""
        self.faults: dict[int, VideoError] = {}
        """Why a video ends early, if this worker has read its end."""
        self.ends: dict[int, int] = {}
        self.moments: dict[tuple[int, bool], Array] = {}

    @property
    def total(self) -> int:
        """Frames to encode."""
        return sum(piece.end - piece.first for piece in self.pieces)

    def fill(self, encode: Callable[[Array], Array], *, rank: int = 0, workers: int = 1) -> Iterator[int]:
        """Encode a worker's share; yields the number of frames done after each piece.

        encode: frames (N, 3, H, W) to moments (N, 8, h, w).
        """
        for piece in self.pieces[rank::workers]:
            if piece not in self.parts:
                frames = self._readable(piece)
                self.parts[piece] = encode(frames) if len(frames) else frames
                yield piece.end - piece.first
        if workers == 1:  # complete; a share of several workers is first written by `write_share`
            own: dict[tuple[int, bool], list[Array]] = {}
            ended: set[tuple[int, bool]] = set()
            for piece in self.pieces:
                key, part = (piece.video, piece.mirror), self.parts.pop(piece)
                if key not in ended and len(part):
                    own.setdefault(key, []).append(part)
                if len(part) < piece.end - piece.first:
                    ended.add(key)
            for key in list(own):
                self.moments[key] = np.concatenate(own.pop(key))

    def write_share(self, path: Path) -> None:
        """Write the encoded share to a .npz for the other workers."""
        with atomic_file(path) as partial:
            np.savez(partial, **{",".join(map(str, map(int, p))): part for p, part in self.parts.items()})

    def read_share(self, path: Path) -> int:
        """Read another worker's share if its file is visible; return the number of its frames."""
        if not path.is_file():
            return 0
        taken = 0
        with np.load(path, allow_pickle=False) as shared:
            for name in shared:
                video, mirror, first, end = map(int, name.split(","))
                self.parts[Stretch(video, bool(mirror), first, end)] = shared[name]
                taken += end - first
        return taken

    def read(self, video: int, indices: list[int], *, mirror: bool) -> Array:
        """Moments of some frames of one video: (N, 8, h, w). Raises VideoError if it ends before that."""
        moments = self.moments.get((video, mirror), _NOTHING)
        if max(indices) >= len(moments):
            reason = f"only the first {len(moments)} of its {self.frames[video]} frames can be read"
            raise self.faults.get(video) or VideoError(Path(self.names[video]), reason)
        return moments[indices]

    def _readable(self, piece: Stretch) -> Array:
        """The frames of a piece, without those after its video's end."""
        end = min(piece.end, self.ends.get(piece.video, piece.end))
        if end <= piece.first:
            return _NOTHING
        try:
            return self.source.read(piece.video, list(range(piece.first, end)), mirror=piece.mirror)
        except VideoError as error:
            self.faults.setdefault(piece.video, error)
            readable = error.frames if isinstance(error, ShortVideoError) else piece.first
            self.ends[piece.video] = min(readable, end - 1)
        return self._readable(piece)
