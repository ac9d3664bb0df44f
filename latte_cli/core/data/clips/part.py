"""Some of a source's videos: those to train on, or those held out of training to validate on."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.data.clips.batches import ClipSource
from latte_cli.core.errors import LatteError


class PartSource:
    """The videos of `source` at `places`, in that order. See batches.ClipSource."""

    def __init__(self, source: ClipSource, places: Sequence[int]):
        self.source = source
        self.content = source.content
        self.places = places
        self.names = tuple(source.names[place] for place in places)
        self.frames = tuple(source.frames[place] for place in places)
        self.labels = tuple(source.labels[place] for place in places)

    def read(self, video: int, indices: list[int], *, mirror: bool) -> NDArray[np.float32]:
        """Frames of one video, as the source's. Raises VideoError."""
        return self.source.read(self.places[video], indices, mirror=mirror)


def fingerprint(source: ClipSource) -> str:
    """A short hash of what decides the order and the cut of clips: names, frame counts and labels."""
    videos = zip(source.names, source.frames, source.labels, strict=True)
    lines = [f"{name}\t{frames}\t{label}" for name, frames, label in videos]
    return sha256("\n".join(lines).encode()).hexdigest()[:16]


def split(names: Sequence[str], share: float) -> tuple[list[int], list[int]]:
    """The places of the videos to train on, and of those held out: about `share` of them.

    A video is held out by a hash of its name, so that it stays where it is when others are added or the
    folder moves. Raises LatteError if either part is empty.
    """
    places: tuple[list[int], list[int]] = ([], [])
    for place, name in enumerate(names):
        places[_fraction(name) < share].append(place)
    for part, purpose in zip(places, ("train", "validate"), strict=True):
        if not part:
            videos = "the only video" if len(names) == 1 else f"{len(names):,} videos"
            raise LatteError(
                f"data.validation: a share of {share:g} of {videos} leaves none to {purpose} on:"
                " expected another share, or a folder of videos"
            )
    return places


def _fraction(name: str) -> float:
    """A number in [0, 1) that depends only on the name."""
    return int.from_bytes(sha256(name.encode(errors="surrogateescape")).digest()[:6], "big") / 2**48
