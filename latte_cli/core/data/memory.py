"""Clips from moments encoded once and kept in memory."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.data.batches import ClipSource, Content

Array = NDArray[np.float32]


class MemorySource:
    """The videos of another source as the autoencoder's moments. See batches.ClipSource."""

    content: Content = "moments"

    def __init__(self, source: ClipSource):
        self.names, self.frames, self.labels = source.names, source.frames, source.labels
        self.source = source
        self.moments: dict[tuple[int, bool], Array] = {}

    def fill(self, encode: Callable[[Array], Array], *, mirrored: bool, chunk: int) -> Iterator[int]:
        """Encode every video, and its mirror image where `mirrored`; yields the frames done after each chunk.

        encode: frames (N, 3, H, W) to moments (N, 8, h, w). Raises VideoError for a video that cannot be
        read.
        """
        for mirror in (False, True) if mirrored else (False,):
            for video, length in enumerate(self.frames):
                parts = []
                for first in range(0, length, chunk):
                    indices = list(range(first, min(first + chunk, length)))
                    parts.append(encode(self.source.read(video, indices, mirror=mirror)))
                    yield len(indices)
                self.moments[video, mirror] = np.concatenate(parts)

    def read(self, video: int, indices: list[int], *, mirror: bool) -> Array:
        """Moments of some frames of one video: (N, 8, h, w)."""
        return self.moments[video, mirror][indices]
