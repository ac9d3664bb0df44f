"""Clips with captions: the videos of another source that have one."""

import logging
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.data.captions.files import Captions
from latte_cli.core.data.clips.batches import ClipSource

log = logging.getLogger(__name__)


class CaptionedSource:
    """The videos of `source` that have captions, in order; each other one is named in the log and left out.

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
        for name in source.names:
            if name not in captions:
                log.warning("left out: %s: has no caption", name)

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
