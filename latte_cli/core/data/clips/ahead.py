"""Decode complete videos ahead of the encoder, in order, in threads."""

import queue
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.data.videos.find import VideoFile
from latte_cli.core.data.videos.open import open_video
from latte_cli.core.data.videos.source import source_hash, source_state
from latte_cli.core.data.videos.transforms import to_pixels
from latte_cli.core.data.videos.video import ShortVideoError, Video, VideoError
from latte_cli.core.settings.schema import DataSettings

PIECES_AHEAD = 4  # per open video


@dataclass(frozen=True)
class VideoState:
    """State of a video file when it was decoded."""

    size: int
    mtime_ns: int
    sha256: str
    frames: int


@dataclass(frozen=True)
class Piece:
    """Consecutive frames of a video, its end, or its failure."""

    video: VideoFile
    frames: NDArray[np.float32] | None = None
    """(n, copies, 3, H, W) in [-1, 1]; copies: the frame and, if requested, its mirror image."""
    source: VideoState | None = None
    """Set on the last piece, which has no frames."""
    fault: str | None = None
    """Why the video failed, on the last piece."""


def decode_ahead(
    videos: Sequence[VideoFile], data: DataSettings, *, piece_frames: int, mirror: bool
) -> Iterator[Piece]:
    """Yield the pieces of all videos in order, decoding data.workers videos at a time with bounded memory.

    Threads stop when the iterator is closed. Exceptions other than VideoError are raised here.
    """
    stopped = Event()
    open_ones: deque[queue.Queue[Piece | BaseException]] = deque()
    threads: list[Thread] = []
    waiting = iter(videos)

    def start_next() -> None:
        video = next(waiting, None)
        if video is not None:
            pieces: queue.Queue[Piece | BaseException] = queue.Queue(PIECES_AHEAD)
            job = _Decoder(video, data, pieces, piece_frames=piece_frames, mirror=mirror, stopped=stopped)
            thread = Thread(target=job.run, name="decode", daemon=True)
            open_ones.append(pieces)
            threads.append(thread)
            thread.start()

    try:
        for _ in range(data.workers):
            start_next()
        while open_ones:
            piece = open_ones[0].get()
            if isinstance(piece, BaseException):
                raise piece
            yield piece
            if piece.frames is None:
                open_ones.popleft()
                threads.pop(0).join()
                start_next()
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


class _Decoder:
    """Decodes one video into a queue."""

    def __init__(
        self,
        video: VideoFile,
        data: DataSettings,
        pieces: "queue.Queue[Piece | BaseException]",
        *,
        piece_frames: int,
        mirror: bool,
        stopped: Event,
    ) -> None:
        self.video = video
        self.data = data
        self.piece_frames = piece_frames
        self.mirrors = (False, True) if mirror else (False,)
        self.pieces = pieces
        self.stopped = stopped

    def run(self) -> None:
        """Decode to the end, a fault, or until stopped."""
        with suppress(_Stopped):
            try:
                self._decode()
            except Exception as error:  # noqa: BLE001 (raised again by the reader of the pieces)
                self._put(error)

    def _decode(self) -> None:
        try:
            size, mtime_ns = source_state(self.video.path)
            reader = open_video(self.video.path)
            frames = self._decode_frames(reader)
            source = VideoState(size, mtime_ns, source_hash(self.video.path), frames)
            if source_state(self.video.path) != (size, mtime_ns):
                raise VideoError(self.video.path, "changed while being read")
        except VideoError as error:
            self._put(Piece(self.video, fault=error.reason))
        except OSError as error:
            self._put(Piece(self.video, fault=error.strerror or str(error)))
        else:
            self._put(Piece(self.video, source=source))

    def _decode_frames(self, reader: Video) -> int:
        """Put all frames that can be decoded and return their number. A truncated file ends early."""
        first, total = 0, len(reader)
        while first < total:
            indices = range(first, min(first + self.piece_frames, total))
            try:
                raw = reader.read(indices)
            except ShortVideoError as error:
                if not error.frames:
                    raise
                total = error.frames
                continue
            copies = [
                to_pixels(raw, self.data.image_size, self.data.transform, mirror=m) for m in self.mirrors
            ]
            self._put(Piece(self.video, np.stack(copies, axis=1)))
            first = indices.stop
        return total

    def _put(self, piece: Piece | BaseException) -> None:
        while not self._offer(piece):
            pass

    def _offer(self, piece: Piece | BaseException) -> bool:
        """Try briefly to put a piece into the queue. Raises _Stopped if the reader has stopped."""
        if self.stopped.is_set():
            raise _Stopped
        try:
            self.pieces.put(piece, timeout=0.1)
        except queue.Full:
            return False
        return True


class _Stopped(BaseException):
    """The reader of the pieces has stopped."""
