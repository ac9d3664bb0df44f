"""Movie files through decord, frame exact.

decord's own random access is off by some frames wherever key frames are not closed (MPEG-4 and MPEG-2 with
B-frames, open GOPs in H.264 and HEVC, files cut by edit lists); decoding forward from the start is always
right. So a movie is decoded forward, remembering checksums of the frames at each key frame passed, and a
later jump to a key frame counts only when it shows those very frames.
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
    1e-5  # decord's fault_tol as a share of the frames: any frame shown twice for a missing one is a fault
)
CHECKED_FRAMES = (
    4  # compared after a jump; all different, so that a shift by a frame cannot pass for the right place
)
JUMP_WORTH = 16  # frames that decoding forward may cost before a jump is tried


class _Landmarks:
    """What is known about a movie file in this process: checksums of the frames from each key frame
    passed."""

    def __init__(self) -> None:
        self.checksums: dict[int, int] = {}
        self.jumps_hold = True


_landmarks: OrderedDict[tuple[str, int, int], _Landmarks] = OrderedDict()
_landmarks_lock = Lock()
_LANDMARKS_KEPT = 10_000


class Movie:
    """A movie file, decoded on one thread (workers decode several movies instead)."""

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
        """Number of frames that the container states."""
        return self.frames

    def read(self, indices: Sequence[int]) -> Frames:
        """See Video.read. Raises ShortVideoError when the file ends before one of these frames."""
        unique = sorted(set(indices))
        found: dict[int, Frames] = {}
        for index in unique:
            self._approach(index)
            while self.position <= index:
                frame = self._next(keep=self.position == index)
            found[index] = frame
        return np.stack([found[index] for index in indices])

    def _approach(self, index: int) -> None:
        """Bring the decoder to `index` or before it, near if a key frame is known there."""
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
        """Try to continue from a key frame: true when the frames shown there are those seen on the way
        forward."""
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
        """Open the file anew, before its first frame."""
        try:
            self.reader: Any = self.decord.VideoReader(
                str(self.path), num_threads=1, fault_tol=NO_REPEATED_FRAMES
            )
        except (self.decord.DECORDError, RuntimeError, AssertionError) as error:
            raise VideoError(self.path, _decord_fault(error)) from error
        self.position = 0

    def _next(self, *, keep: bool) -> Frames:
        """Decode one frame forward; its pixels are only fetched when kept or watched for landmarks."""
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
        """decord's exception when a frame is missing."""
        limit: type[Exception] = self.decord._ffi.base.DECORDLimitReachedError
        return limit

    def _sniff(self) -> None:
        """Refuse what is plainly no movie: decord would say so on stderr, in words of its own."""
        with self.path.open("rb") as file:
            head = file.read(12)
        if not head:
            raise VideoError(self.path, "is empty")
        if self.path.suffix.lower() in {".mp4", ".mov"} and head[:4] not in {b"RIFF", b"\x1a\x45\xdf\xa3"}:
            boxes = set(_boxes(self.path))
            if not boxes & {b"ftyp", b"mdat", b"moov", b"wide", b"free", b"skip"}:
                raise VideoError(self.path, "not a movie file")
            if not boxes & {b"moov", b"moof"}:
                raise VideoError(self.path, "cut short: its index (moov) is missing")
        elif head[:4] not in {b"RIFF", b"\x1a\x45\xdf\xa3"} and head[4:8] != b"ftyp":
            raise VideoError(self.path, "not a movie file")


_NOTHING: Frames = np.empty(0, np.uint8)


def _pixels(frame: Any) -> Frames:
    """decord's frame as (H, W, 3); 16 pixels wide and less, decord passes the padding of its rows off as
    channels."""
    pixels: Frames = frame.asnumpy()
    height, width, _ = pixels.shape
    return np.ascontiguousarray(pixels.reshape(height, -1)[:, : width * 3]).reshape(height, width, 3)


def _landmarks_of(path: Path) -> _Landmarks:
    """The landmarks of a file as it is now, shared by all its readers."""
    state = path.stat()
    key = (str(path), state.st_size, state.st_mtime_ns)
    with _landmarks_lock:
        found = _landmarks.setdefault(key, _Landmarks())
        _landmarks.move_to_end(key)
        while len(_landmarks) > _LANDMARKS_KEPT:
            _landmarks.popitem(last=False)
    return found


def _import_decord() -> Any:
    """The decord module, quiet. Raises LatteError saying what to install."""
    with suppress(OSError):  # else parts of it that decord carries make a later import of MindSpore abort
        ctypes.CDLL("libstdc++.so.6", ctypes.RTLD_GLOBAL)
    try:
        import decord
    except ImportError as error:
        raise LatteError(
            "reading movie files needs decord: pip install decord (on macOS and Arm: pip install eva-decord)"
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
    """Why decord refuses a file, in a few words."""
    text = str(error)
    if "cannot find video stream" in text:
        return "holds no video that decord can decode"
    if "av_read_frame failed" in text:
        return "cut short or damaged"
    return "not a movie file that decord can open"
