"""Read movie files with decord, frame-exact.

decord's random access is off by some frames if key frames are not closed (MPEG-4 and MPEG-2 with B-frames,
open GOPs in H.264 and HEVC, files cut by edit lists); decoding forward from the start is always correct. So
a movie is decoded forward, storing checksums of the frames after each key frame, and a later jump to a key
frame is accepted only if it shows the same frames.
"""

import ctypes
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from latte_cli.core.data.videos.video import Frames, ShortVideoError, VideoError
from latte_cli.core.errors import LatteError

NO_REPEATED_FRAMES = (
    1e-5  # decord's fault_tol, a fraction of the frames: a frame repeated for a missing one is an error
)
CHECKED_FRAMES = 4  # frames compared after a jump; all different, so that an offset by one frame is detected
JUMP_WORTH = 16  # frames to decode forward before a jump is tried


class _Landmarks:
    """Checksums of the frames after each key frame passed, for a movie file in this process."""

    def __init__(self) -> None:
        self.checksums: dict[int, int] = {}
        self.jumps_hold = True


_landmarks: OrderedDict[tuple[str, int, int], _Landmarks] = OrderedDict()
_landmarks_lock = Lock()
_LANDMARKS_KEPT = 10_000


class Movie:
    """A movie file, decoded in one thread (workers decode several movies in parallel)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sniff()
        self.decord = _import_decord()
        self.landmarks = _landmarks_of(path)
        self._open()
        self.frames = len(self.reader)
        self.key_frames: list[int] = self.reader.get_key_indices()
        self.watched = (
            {key + i for key in self.key_frames for i in range(CHECKED_FRAMES)}
            if len(self.key_frames) > 1
            else set()
        )

    def __len__(self) -> int:
        """Number of frames stated by the container."""
        return self.frames

    def read(self, indices: Sequence[int]) -> Frames:
        """See Video.read. Raises ShortVideoError if the file ends before one of these frames."""
        unique = sorted(set(indices))
        found: dict[int, Frames] = {}
        for index in unique:
            self._approach(index)
            while self.position <= index:
                frame = self._next(keep=self.position == index)
            found[index] = frame
        return np.stack([found[index] for index in indices])

    def _approach(self, index: int) -> None:
        """Move the decoder to `index` or before it, jumping to a known key frame if one is near."""
        if index < self.position or index - self.position > JUMP_WORTH:
            start = self.position if index >= self.position else 0
            for key in reversed(self.key_frames):
                if start + JUMP_WORTH < key <= index - CHECKED_FRAMES and self._jump(key):
                    return
                if not self.landmarks.jumps_hold or key <= start:
                    break
        if index < self.position:
            self._open()

    def _jump(self, key: int) -> bool:
        """Try to jump to a key frame; True if the frames there match those decoded earlier."""
        marks = [self.landmarks.checksums.get(key + i) for i in range(CHECKED_FRAMES)]
        if not self.landmarks.jumps_hold or None in marks or len(set(marks)) < CHECKED_FRAMES:
            return False
        try:
            self.reader.seek(key)
            shown = [zlib.crc32(_pixels(self.reader.next()).data) for _ in marks]
        except (self.decord.DECORDError, self._limit_error, RuntimeError, StopIteration):
            shown = []
        if shown == marks:
            self.position = key + CHECKED_FRAMES
            return True
        self.landmarks.jumps_hold = False
        self._open()
        return False

    def _open(self) -> None:
        """Open the file again, before its first frame."""
        if not self.path.exists():  # decord would print its own message to stderr
            raise VideoError(self.path, "no such file or folder")
        try:
            self.reader: Any = self.decord.VideoReader(
                str(self.path), num_threads=1, fault_tol=NO_REPEATED_FRAMES
            )
        except (self.decord.DECORDError, RuntimeError, AssertionError) as error:
            raise VideoError(self.path, _decord_fault(error)) from error
        self.position = 0

    def _next(self, *, keep: bool) -> Frames:
        """Decode the next frame; pixels are copied only if they are kept or used as landmarks."""
        try:
            frame = self.reader.next()
        except (self._limit_error, StopIteration) as error:
            raise ShortVideoError(self.path, self.frames, self.position) from error
        except (self.decord.DECORDError, RuntimeError) as error:
            raise VideoError(self.path, f"cannot be decoded from frame {self.position} on") from error
        pixels = _pixels(frame) if keep or self.position in self.watched else _NOTHING
        if self.position in self.watched:
            self.landmarks.checksums.setdefault(self.position, zlib.crc32(pixels.data))
        self.position += 1
        return pixels

    @property
    def _limit_error(self) -> type[Exception]:
        """decord's exception for a missing frame."""
        limit: type[Exception] = self.decord._ffi.base.DECORDLimitReachedError
        return limit

    def _sniff(self) -> None:
        """Reject files that are obviously not movies: decord would print its own messages to stderr."""
        with self.path.open("rb") as file:
            head = file.read(12)
        if not head:
            raise VideoError(self.path, "is empty")
        if self.path.suffix.lower() in {".mp4", ".mov"} and head[:4] not in {b"RIFF", b"\x1a\x45\xdf\xa3"}:
            boxes = set(_boxes(self.path))
            if not boxes & {b"ftyp", b"mdat", b"moov", b"wide", b"free", b"skip"}:
                raise VideoError(self.path, "not a movie file")
            if not boxes & {b"moov", b"moof"}:
                raise VideoError(self.path, "truncated: its index (moov) is missing")
        elif head[:4] not in {b"RIFF", b"\x1a\x45\xdf\xa3"} and head[4:8] != b"ftyp":
            raise VideoError(self.path, "not a movie file")


_NOTHING: Frames = np.empty(0, np.uint8)


def _pixels(frame: Any) -> Frames:
    """decord's frame as (H, W, 3); for widths up to 16 pixels, decord returns row padding as channels."""
    pixels: Frames = frame.asnumpy()
    height, width, _ = pixels.shape
    return np.ascontiguousarray(pixels.reshape(height, -1)[:, : width * 3]).reshape(height, width, 3)


def _landmarks_of(path: Path) -> _Landmarks:
    """The landmarks of a file in its current state, shared by all its readers."""
    state = path.stat()
    key = (str(path), state.st_size, state.st_mtime_ns)
    with _landmarks_lock:
        found = _landmarks.setdefault(key, _Landmarks())
        _landmarks.move_to_end(key)
        while len(_landmarks) > _LANDMARKS_KEPT:
            _landmarks.popitem(last=False)
    return found


def _import_decord() -> Any:
    """Import decord with logging disabled. Raises LatteError if it is not installed."""
    with suppress(OSError):  # otherwise libraries bundled with decord make a later import of MindSpore abort
        ctypes.CDLL("libstdc++.so.6", ctypes.RTLD_GLOBAL)
    try:
        import decord
    except ImportError as error:
        raise LatteError(
            "reading movie files needs decord (on macOS eva-decord), expected folders of frames instead;"
            " latte doctor shows how to install it"
        ) from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _boxes(path: Path) -> Iterator[bytes]:
    """The types of an MP4's top-level boxes (ISO/IEC 14496-12, 4.2)."""
    size = path.stat().st_size
    place = 0
    with path.open("rb") as file:
        while place + 8 <= size:
            file.seek(place)
            head = file.read(16)
            yield head[4:8]
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if length < 8:
                return
            place += length


def _decord_fault(error: Exception) -> str:
    """A short description of decord's error."""
    text = str(error)
    if "cannot find video stream" in text:
        return "contains no video that decord can decode"
    if "av_read_frame failed" in text:
        return "truncated or damaged"
    return "not a movie file that decord can open"
