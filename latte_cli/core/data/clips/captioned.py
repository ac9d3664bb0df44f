"""Clips with captions: the videos of another source that have one."""

from hashlib import sha256

from latte_cli.core.data.captions.files import Captions
from latte_cli.core.data.clips.batches import ClipSource
from latte_cli.core.data.clips.part import PartSource
from latte_cli.core.data.videos.left_out import LeftOut, warn_of


class CaptionedSource(PartSource):
    """The videos of `source` that have captions, in order; the others are skipped with a warning."""

    def __init__(self, source: ClipSource, captions: Captions):
        super().__init__(source, [place for place, name in enumerate(source.names) if name in captions])
        self.captions = {name: captions[name] for name in self.names}
        warn_of([LeftOut(name, "has no caption") for name in source.names if name not in captions])

    def fingerprint(self) -> str:
        """A short hash of everything that determines the order, the frames and the captions of clips."""
        lines = [
            repr((name, frames, self.captions[name]))
            for name, frames in zip(self.names, self.frames, strict=True)
        ]
        return sha256("\n".join(lines).encode()).hexdigest()[:16]
