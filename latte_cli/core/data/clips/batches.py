"""Batches of clips, determined by (seed, step, place) and decoded ahead of training in threads.

Step s of a run has places 0 .. G - 1 of its global batch, G = batch_size * accumulation * workers. Place p of
step s takes position s * G + p in the infinite sequence of epochs, each epoch a permutation of the videos.
Forward pass a of worker r has the batch_size places from (a * world + r) * batch_size. So one worker with
batch 4, two with batch 2, and one with batch 2 accumulated twice see the same clips in the same places.

A video that cannot be read is reported once and replaced by the next readable one of the epoch's permutation,
with the random draws of its place. So the clip still depends only on (seed, step, place) and the files.
"""

import logging
import math
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.data.videos.transforms import clip_indices, last_begin
from latte_cli.core.data.videos.video import VideoError
from latte_cli.core.errors import LatteError
from latte_cli.core.rng import Stream, draw
from latte_cli.core.settings.schema import DataSettings

log = logging.getLogger(__name__)

Content = Literal["frames", "moments", "latents"]
BATCHES_AHEAD = 2


class ClipSource(Protocol):
    """Videos from which clips are cut. Must be thread-safe."""

    content: Content
    """The values that read returns: pixels in [-1, 1], the autoencoder's moments, or scaled latents."""

    names: tuple[str, ...]
    """Names of the videos."""
    frames: tuple[int, ...]
    """Number of frames of each video."""
    labels: tuple[int | None, ...]
    """Class of each video, or None."""

    def read(self, video: int, indices: list[int], *, mirror: bool) -> NDArray[np.float32]:
        """Frames of one video: (N, C, H, W) float32. Raises VideoError."""
        ...


@dataclass(frozen=True)
class Sharing:
    """Distribution of a step's places over workers and forward passes."""

    batch_size: int
    accumulation: int = 1
    rank: int = 0
    world: int = 1

    @property
    def global_batch(self) -> int:
        """Places per step."""
        return self.batch_size * self.accumulation * self.world

    def places(self, micro: int) -> range:
        """The places of this worker's forward pass `micro` of a step."""
        first = (micro * self.world + self.rank) * self.batch_size
        return range(first, first + self.batch_size)


class FrameOf(NamedTuple):
    """A frame of a video, possibly mirrored."""

    name: str
    frame: int
    mirror: bool


@dataclass(frozen=True)
class Batch:
    """The clips of one forward pass: values (B, F, C, H, W) float32, as described by `content`.

    With data.use_image_num, that many still images follow the F frames of each clip.
    """

    step: int
    micro: int
    places: NDArray[np.int64]
    """(B,) places in the step's global batch: the counters of all further draws."""
    content: Content
    values: NDArray[np.float32]
    videos: NDArray[np.int64]
    """(B,) indices of the videos in the source."""
    epochs: NDArray[np.int64]
    """(B,) epochs."""
    class_labels: NDArray[np.int64]
    """(B,) classes; 0 for videos without one."""
    image_labels: NDArray[np.int64]
    """(B, data.use_image_num) classes of the still images."""
    drawn_from: tuple[tuple[FrameOf, ...], ...] = ()
    """The source of each frame of each clip, and of each still image."""


@dataclass(frozen=True)
class _Clip:
    """One filled place of a batch."""

    values: NDArray[np.float32]
    video: int
    epoch: int
    image_videos: list[int]
    drawn_from: list[FrameOf]


def batches(
    source: ClipSource,
    *,
    data: DataSettings,
    sharing: Sharing,
    seed: int,
    start_step: int = 0,
    start_position: int | None = None,
) -> Generator[Batch, None, None]:
    """Infinite batches of one worker from `start_step`, decoded ahead by data.workers threads.

    start_position: number of clips used by earlier steps, if their global batch had another size.
    Threads stop when the iterator is closed. Raises LatteError if no video can be read.
    """
    loader = _Loader(source, data, seed)
    position = start_step * sharing.global_batch if start_position is None else start_position
    ahead = BATCHES_AHEAD + math.ceil(data.workers / sharing.batch_size)
    pool = ThreadPoolExecutor(data.workers, "decode")
    waiting: deque[tuple[int, int, list[Future[_Clip]]]] = deque()
    try:
        step, micro = start_step, 0
        while True:
            while len(waiting) < ahead:
                first = position + (step - start_step) * sharing.global_batch
                clips = [
                    pool.submit(loader.load, step, place, first + place) for place in sharing.places(micro)
                ]
                waiting.append((step, micro, clips))
                micro += 1
                if micro == sharing.accumulation:
                    step, micro = step + 1, 0
            due_step, due_micro, futures = waiting.popleft()
            filled = [future.result() for future in futures]
            places = np.asarray(sharing.places(due_micro))
            yield _join(source, filled, places, step=due_step, micro=due_micro)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def video_at(seed: int, position: int, num_videos: int) -> int:
    """The video at a position in the infinite sequence of epochs."""
    return int(_permutation(seed, position // num_videos, num_videos)[position % num_videos])


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num_videos: int) -> NDArray[np.int64]:
    """The order of the videos in an epoch."""
    return draw(seed, Stream.ORDER, epoch).permutation(num_videos)


class _Loader:
    """Loads the clip of a place; reports each unreadable video once."""

    def __init__(self, source: ClipSource, data: DataSettings, seed: int) -> None:
        self.source = source
        self.data = data
        self.seed = seed
        self.named: set[int] = set()

    def load(self, step: int, place: int, position: int) -> _Clip:
        """The clip of a place, with its still images."""
        num_videos = len(self.source.names)
        epoch, first = divmod(position, num_videos)
        order = _permutation(self.seed, epoch, num_videos)
        mirror = self.data.random_flip and bool(draw(self.seed, Stream.FLIP, step, place).integers(2))
        for further in range(num_videos):
            video = int(order[(first + further) % num_videos])
            indices = self._cut(video, step, place)
            values = self._try(video, indices, mirror)
            if values is not None:
                break
        else:
            raise LatteError(f"data: none of the {num_videos} videos can be read")
        drawn_from = [FrameOf(self.source.names[video], index, mirror) for index in indices]
        if not self.data.use_image_num:
            return _Clip(values, video, epoch, [], drawn_from)
        images, image_videos, image_frames = self._images(video, step, place)
        return _Clip(np.concatenate([values, *images]), video, epoch, image_videos, drawn_from + image_frames)

    def _cut(self, video: int, step: int, place: int) -> list[int]:
        """The source frames of a place's clip if it is cut from this video."""
        data, total = self.data, self.source.frames[video]
        last = last_begin(total, data.num_frames, data.frame_stride)
        begin = int(draw(self.seed, Stream.CROP, step, place).integers(last + 1))
        return clip_indices(
            begin, total, num_frames=data.num_frames, frame_stride=data.frame_stride, spacing=data.spacing
        )

    def _images(
        self, clip_video: int, step: int, place: int
    ) -> tuple[list[NDArray[np.float32]], list[int], list[FrameOf]]:
        """Still images, each a frame of another video (of the same one if it is the only one)."""
        num_videos = len(self.source.names)
        generator = draw(self.seed, Stream.IMAGE, step, place)
        images: list[NDArray[np.float32]] = []
        videos: list[int] = []
        frames: list[FrameOf] = []
        for _ in range(self.data.use_image_num):
            shift, instant, flip = (
                generator.integers(max(1, num_videos - 1)),
                generator.random(),
                generator.integers(2),
            )
            for further in range(num_videos):
                video = (clip_video + 1 + int(shift) + further) % num_videos
                index = int(instant * self.source.frames[video])
                mirror = self.data.random_flip and bool(flip)
                values = self._try(video, [index], mirror)
                if values is not None:
                    break
            else:
                raise LatteError(f"data: none of the {num_videos} videos can be read")
            images.append(values)
            videos.append(video)
            frames.append(FrameOf(self.source.names[video], index, mirror))
        return images, videos, frames

    def _try(self, video: int, indices: list[int], mirror: bool) -> NDArray[np.float32] | None:
        """Read frames; on failure log the video once and return None."""
        try:
            return self.source.read(video, indices, mirror=mirror)
        except VideoError as error:
            if video not in self.named:
                self.named.add(video)
                log.warning("%s; replaced by other clips", error)
            return None


def _join(
    source: ClipSource, clips: list[_Clip], places: NDArray[np.int64], *, step: int, micro: int
) -> Batch:
    """Join the clips of a batch's places."""
    return Batch(
        step=step,
        micro=micro,
        places=places,
        content=source.content,
        values=np.stack([clip.values for clip in clips]),
        videos=np.array([clip.video for clip in clips], np.int64),
        epochs=np.array([clip.epoch for clip in clips], np.int64),
        class_labels=np.array([source.labels[clip.video] or 0 for clip in clips], np.int64),
        image_labels=np.array(
            [[source.labels[v] or 0 for v in clip.image_videos] for clip in clips], np.int64
        ),
        drawn_from=tuple(tuple(clip.drawn_from) for clip in clips),
    )
