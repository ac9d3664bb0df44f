"""Latents in one NumPy file per video.

A file contains (frames, C, h, w), or (frames, 2, C, h, w) with mirrored copies: C is 8 for moments (mean,
log-variance), 4 for stored samples, already scaled. It is memory-mapped, so reading a clip touches only its
frames.
"""

import os
import re
from contextlib import ExitStack, suppress
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.arrays import Array
from latte_cli.core.data.clips.batches import Content
from latte_cli.core.data.latent_cache.manifest import Entry
from latte_cli.core.data.videos.find import ClipIndex
from latte_cli.core.data.videos.video import VideoError
from latte_cli.core.errors import LatteError
from latte_cli.core.rng import Stream, draw
from latte_cli.core.storage.files import atomic_file

LATENTS = "latents"
FILES_KEPT_MAPPED = 256
HEAD_BYTES = 128  # header of an .npy file: fixed, so that it can be written last


class GrowingFile:
    """An .npy file to which values are appended; it appears complete when finished, or not at all."""

    def __init__(self, target: Path, dtype: str) -> None:
        self.target = target
        self.dtype = np.dtype(dtype)
        self.value_shape: tuple[int, ...] = ()
        self.count = 0
        self.digest = sha256()
        self.stack = ExitStack()
        self.partial = self.stack.enter_context(atomic_file(target))
        try:
            self.file = self.stack.enter_context(self.partial.open("wb"))
            self.file.write(bytes(HEAD_BYTES))
        except OSError as error:
            self.abandon()
            raise LatteError(f"{target}: cannot be written: {error.strerror or error}") from error

    def append(self, values: Array) -> None:
        """Append values (n, C, h, w). Raises LatteError if they cannot be written."""
        stored = np.ascontiguousarray(values, self.dtype)
        self.count += len(stored)
        self.value_shape = stored.shape[1:]
        self.digest.update(stored.data)
        try:
            self.file.write(stored.data)
        except OSError as error:
            raise LatteError(f"{self.target}: cannot be written: {error.strerror or error}") from error

    def finish(self, copies: int) -> tuple[int, ...]:
        """Move the file to its target and return its shape; each frame has `copies` values.

        Raises LatteError if it cannot be written.
        """
        shape = (self.count // copies, *((copies,) if copies > 1 else ()), *self.value_shape)
        head = BytesIO()
        content = {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(head, content)  # type: ignore[no-untyped-call]
        if len(head.getvalue()) != HEAD_BYTES:
            raise RuntimeError(f"NumPy writes {len(head.getvalue())} bytes of header, not {HEAD_BYTES}")
        try:
            self.file.seek(0)
            self.file.write(head.getvalue())
            self.stack.close()
        except OSError as error:
            self.abandon()
            raise LatteError(f"{self.target}: cannot be written: {error.strerror or error}") from error
        return shape

    def abandon(self) -> None:
        """Remove the unfinished file."""
        with suppress(_AbandonedError, LatteError, OSError):
            self.stack.__exit__(_AbandonedError, _AbandonedError(), None)
        with suppress(OSError):
            os.unlink(self.partial)


class _AbandonedError(Exception):
    """The unfinished file is discarded."""


def entry_file(name: str) -> str:
    """The path of a video's latents in the cache's folder: readable and unique for each name."""
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", name.rsplit("/", 1)[-1])[:60].lstrip(".")
    return f"{LATENTS}/{readable}-{sha256(name.encode()).hexdigest()[:16]}.npy"


def stored_noise(seed: int, name: str, index: int, mirror: bool, *, shape: tuple[int, ...]) -> Array:
    """The noise of a frame's stored sample; depends only on the video's name and the frame."""
    key = int.from_bytes(sha256(name.encode()).digest()[:8], "big")
    return draw(seed, Stream.STORED, key, index, int(mirror)).standard_normal(shape, np.float32)


def checksum(values: NDArray[np.generic]) -> str:
    """SHA-256 of values in order."""
    return sha256(np.ascontiguousarray(values).data).hexdigest()


class NumpySource:
    """Clips from the NumPy files of a cache. See batches.ClipSource."""

    def __init__(self, folder: Path, index: ClipIndex, entries: dict[str, Entry], content: Content) -> None:
        self.content: Content = content
        self.names = tuple(video.name for video in index.videos)
        self.frames = index.frames
        self.labels = tuple(video.label for video in index.videos)
        self.paths = [folder / entries[name].file for name in self.names]
        self.mapped = lru_cache(FILES_KEPT_MAPPED)(lambda path: np.load(path, mmap_mode="r"))
        self.shapes = [entries[name].shape for name in self.names]

    def read(self, video: int, indices: list[int], *, mirror: bool) -> Array:
        """Frames of one video: (N, C, h, w). Raises VideoError if its file is missing or damaged."""
        path = self.paths[video]
        try:
            stored = self.mapped(path)
        except (OSError, ValueError, EOFError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "torn"
            raise VideoError(path, f"cannot be read: {reason}; check it with latte cache --verify") from error
        if stored.shape != self.shapes[video]:
            reason = f"found an array of {stored.shape}, expected {self.shapes[video]}, as the manifest says"
            raise VideoError(path, reason)
        values = stored[indices, int(mirror)] if stored.ndim == 5 else stored[indices]
        return np.asarray(values, np.float32)
