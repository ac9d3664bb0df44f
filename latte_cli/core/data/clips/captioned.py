"""Clips with captions: the videos of another source that have one."""

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.data.captions.files import Captions
from latte_cli.core.data.clips.batches import ClipSource
from latte_cli.core.data.videos.left_out import LeftOut, warn_of


class CaptionedSource:
    """The videos of `source` that have captions, in order; the others are left out, with a warning.

    See batches.ClipSource.
    """

    def __init__(self, source: ClipSource, captions: Captions):
        self.source = source
        self.content = source.content
        self.places = [place for place, name in enumerate(source.names) if name in captions]
        self.names = tuple(source.names[place] for place in self.places)
        self.frames = tuple(source.frames[place] for place in self.places)
        self.labels = tuple(source.labels[place] for place in self.places)
        self.captions = {name: captions[name] for name in self.names}
        warn_of([LeftOut(name, "has no caption") for name in source.names if name not in captions])

    def read(self, video: int, indices: list[int], *, mirror: bool) -> NDArray[np.float32]:
        """Frames of one video, as the source's. Raises VideoError."""
        return self.source.read(self.places[video], indices, mirror=mirror)

    def fingerprint(self) -> str:
        """A short hash of what decides the order and the cut of clips, and what each is told."""
        lines = [
            repr((name, frames, self.captions[name]))
            for name, frames in zip(self.names, self.frames, strict=True)
        ]
        return sha256("\n".join(lines).encode()).hexdigest()[:16]
