"""Clips directly from videos: decoded, cropped and resized, cached in memory as far as they fit."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.data.clips.batches import Content
from latte_cli.core.data.videos.find import ClipIndex
from latte_cli.core.data.videos.open import open_video
from latte_cli.core.data.videos.transforms import to_pixels
from latte_cli.core.data.videos.video import Video
from latte_cli.core.settings.schema import DataSettings

FRAMES_KEPT_BYTES = 512 * 2**20
VIDEOS_KEPT_OPEN = 8


class FrameSource:
    """Clips in pixels: (N, 3, image_size, image_size) float32 in [-1, 1]. See batches.ClipSource."""

    content: Content = "frames"

    def __init__(self, index: ClipIndex, data: DataSettings, *, keep_bytes: int = FRAMES_KEPT_BYTES) -> None:
        self.data = data
        self.names = tuple(video.name for video in index.videos)
        self.frames = index.frames
        self.labels = tuple(video.label for video in index.videos)
        self.readers = OpenVideos(index)
        self.kept: dict[tuple[int, int, bool], NDArray[np.float32]] = {}
        self.room = keep_bytes // (3 * 4 * data.image_size**2)

    def read(self, video: int, indices: list[int], *, mirror: bool) -> NDArray[np.float32]:
        """Frames of one video, from memory if read before. Raises VideoError.

        Frames are never evicted: with randomly chosen clips, replacing them would gain nothing.
        """
        found = {index: self.kept.get((video, index, mirror)) for index in indices}
        missing = [index for index, frame in found.items() if frame is None]
        if missing:
            with self.readers.lend(video) as reader:
                raw = reader.read(missing)
            pixels = to_pixels(raw, self.data.image_size, self.data.transform, mirror=mirror)
            for index, frame in zip(missing, pixels, strict=True):
                found[index] = frame
                if len(self.kept) < self.room:
                    self.kept[video, index, mirror] = frame.copy()
        return np.stack([frame for index in indices if (frame := found[index]) is not None])


class OpenVideos:
    """A pool of open videos; each is used by one thread at a time."""

    def __init__(self, index: ClipIndex, limit: int = VIDEOS_KEPT_OPEN) -> None:
        self.index = index
        self.limit = limit
        self.idle: OrderedDict[int, list[Video]] = OrderedDict()
        self.lock = Lock()

    @contextmanager
    def lend(self, video: int) -> Iterator[Video]:
        """A reader of a video, opened if none is free, and discarded after an error. Raises VideoError."""
        with self.lock:
            readers = self.idle.pop(video, [])
            reader = readers.pop() if readers else None
            if readers:
                self.idle[video] = readers
        reader = reader if reader is not None else open_video(self.index.videos[video].path)
        yield reader
        with self.lock:
            self.idle.setdefault(video, []).append(reader)
            self.idle.move_to_end(video)
            while sum(map(len, self.idle.values())) > self.limit:
                oldest = next(iter(self.idle))
                self.idle[oldest].pop()
                if not self.idle[oldest]:
                    del self.idle[oldest]
