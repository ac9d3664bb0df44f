"""Latents in MindRecord shards, read with MindDataset.

A video is cut into rows {name, first, frames, latents} that are well below MindRecord's page size and overlap
by almost one clip, so that a clip is contained in one row. Longer clips are assembled from several rows. A
row's `latents` are the values of its frames in order; shape and dtype are in cache.json and the manifest.
"""

import math
import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.arrays import Array
from latte_cli.core.data.clips.batches import Content
from latte_cli.core.data.latent_cache.manifest import Entry
from latte_cli.core.data.latent_cache.shard_sums import shard_fault, size_and_digest, write_sums
from latte_cli.core.data.videos.find import ClipIndex
from latte_cli.core.data.videos.video import VideoError
from latte_cli.core.errors import LatteError
from latte_cli.core.storage.files import remove_folder, sync

SHARD_BYTES = 256 * 2**20  # of latents; a longer video gets a separate shard
ROW_BYTES = 8 * 2**20  # maximum; the page is at least twice as large
LEAST_NEW_FRAMES = 64  # per row, in addition to those repeated from the row before
PAGE_BYTES = 32 * 2**20
HEAD_BYTES = 2**20
ROWS_KEPT_BYTES = 512 * 2**20
READABLE = 0o644
SCHEMA = {
    "name": {"type": "string"},
    "first": {"type": "int64"},
    "frames": {"type": "int64"},
    "latents": {"type": "bytes"},
}


def row_layout(span: int, frame_bytes: int) -> tuple[int, int]:
    """Frames per row, and frames repeated in the next row, for clips of `span` source frames."""
    most = max(2, ROW_BYTES // frame_bytes)
    overlap = min(span - 1, most // 2)
    return min(most, overlap + max(LEAST_NEW_FRAMES, overlap)), overlap


def row_starts(frames: int, rows: tuple[int, int]) -> range:
    """The first frame of each row of a video."""
    length, overlap = rows
    step = length - overlap
    return range(0, max(1, math.ceil((frames - overlap) / step)) * step, step)


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.mindrecord"


def shard_number(name: str) -> int:
    """The number of a shard."""
    return int(name.removeprefix("shard-").removesuffix(".mindrecord"))


def write_shard(
    target: Path,
    videos: Sequence[tuple[str, NDArray[np.generic]]],
    rows: tuple[int, int],
    *,
    settings: str = "",
) -> dict[str, int]:
    """Write a shard of videos (name, values (frames, ...)) atomically and return each video's first row.

    settings: the header's digest, which identifies the cache of a shard.
    MindRecord files must not be renamed, so the shard is written under its name in a temporary folder. Raises
    LatteError if it cannot be written.
    """
    from mindspore.mindrecord import FileWriter

    workshop = target.parent / f".{target.stem}"
    remove_folder(workshop)
    first_rows: dict[str, int] = {}
    count = 0
    try:
        workshop.mkdir(parents=True)
        _reserve(workshop, sum(_row_bytes(values, rows) for _, values in videos))
        writer = FileWriter(str(workshop / target.name), 1)
        writer.set_header_size(HEAD_BYTES)
        writer.set_page_size(PAGE_BYTES)
        writer.add_schema(SCHEMA, "latents of videos, cut into rows")
        writer.add_index(["name", "first"])
        for name, values in videos:
            first_rows[name] = count
            for first in row_starts(len(values), rows):
                row = np.ascontiguousarray(values[first : first + rows[0]])
                content = {"name": name, "first": first, "frames": len(row), "latents": row.tobytes()}
                writer.write_raw_data([content])
                count += 1
        writer.commit()
        parts = (f"{target.name}.db", target.name)
        sums = {part: size_and_digest(workshop / part) for part in parts}
        for part in parts:
            (workshop / part).chmod(READABLE)  # MindRecord makes its files readable by the owner only
            sync(workshop / part)
            (workshop / part).replace(target.parent / part)
        write_sums(target, sums, settings)
    except (OSError, RuntimeError) as error:
        fault = re.search(r"\[ERROR\] *(.*)", str(error))
        reason = error.strerror if isinstance(error, OSError) else fault[1] if fault else str(error).strip()
        raise LatteError(f"{target}: cannot be written: {reason}") from error
    finally:
        remove_folder(workshop)
    return first_rows


def read_rows(shard: Path, numbers: Sequence[int]) -> list[tuple[str, int, bytes]]:
    """Rows of a shard by number, without repeats, in this order: name, first frame, latents. Raises
    VideoError."""
    if (fault := shard_fault(shard)) is not None:
        raise VideoError(shard, f"{fault}; check it with latte cache --verify")
    import mindspore.dataset as ds

    columns = ["name", "first", "latents"]
    try:
        sampler = ds.SubsetSampler(list(numbers))
        rows = ds.MindDataset(str(shard), columns_list=columns, sampler=sampler, num_parallel_workers=1)
        found: list[dict[str, Any]] = list(rows.create_dict_iterator(num_epochs=1, output_numpy=True))
    except RuntimeError as error:
        raise VideoError(shard, "cannot be read: torn; check it with latte cache --verify") from error
    return [(str(row["name"]), int(row["first"]), row["latents"].tobytes()) for row in found]


class ShardVideo(NamedTuple):
    """A video in a shard: its name, number of frames, and the bytes and SHA-256 of their values."""

    name: str
    frames: int
    size: int
    checksum: str


class ShardSource:
    """Clips from the MindRecord shards of a cache; rows are kept in memory as far as they fit. See
    ClipSource."""

    def __init__(
        self,
        folder: Path,
        index: ClipIndex,
        entries: dict[str, Entry],
        content: Content,
        *,
        rows: tuple[int, int],
        keep_bytes: int = ROWS_KEPT_BYTES,
    ) -> None:
        self.content: Content = content
        self.names = tuple(video.name for video in index.videos)
        self.frames = index.frames
        self.labels = tuple(video.label for video in index.videos)
        self.folder = folder
        self.entries = [entries[name] for name in self.names]
        self.rows = rows
        self.keep_bytes = keep_bytes
        self.kept: OrderedDict[tuple[str, int], NDArray[np.generic]] = OrderedDict()
        self.kept_bytes = 0
        self.lock = Lock()

    def read(self, video: int, indices: list[int], *, mirror: bool) -> Array:
        """Frames of one video: (N, C, h, w). Raises VideoError."""
        entry = self.entries[video]
        length, overlap = self.rows
        last_row = len(row_starts(entry.frames, self.rows)) - 1
        first_row = min(min(indices) // (length - overlap), last_row)
        values: list[NDArray[np.generic]] = []
        for index in indices:
            inside = index < first_row * (length - overlap) + length
            number = first_row if inside else min(index // (length - overlap), last_row)
            row = self._row(entry, number)
            frame = row[index - number * (length - overlap)]
            values.append(frame[int(mirror)] if len(entry.shape) == 5 else frame)
        return np.asarray(values, np.float32)

    def _row(self, entry: Entry, number: int) -> NDArray[np.generic]:
        """One row of a video, from memory or the shard."""
        assert entry.row is not None
        length, overlap = self.rows
        key = (entry.file, entry.row + number)
        with self.lock:
            if key in self.kept:
                self.kept.move_to_end(key)
                return self.kept[key]
        found = read_rows(self.folder / entry.file, [entry.row + number])
        if len(found) != 1 or found[0][0] != entry.name:
            raise VideoError(self.folder / entry.file, f"does not contain {entry.name} at the expected row")
        first, values = found[0][1:]
        frames = min(length, entry.frames - first)
        size = frames * math.prod(entry.shape[1:]) * np.dtype(entry.dtype).itemsize
        if (first, len(values)) != (number * (length - overlap), size):
            raise VideoError(self.folder / entry.file, f"contains other frames of {entry.name} than expected")
        row = np.frombuffer(values, entry.dtype).reshape(frames, *entry.shape[1:])
        with self.lock:
            if key not in self.kept and row.nbytes <= self.keep_bytes:
                self.kept[key] = row
                self.kept_bytes += row.nbytes
            while self.kept_bytes > self.keep_bytes:
                self.kept_bytes -= self.kept.popitem(last=False)[1].nbytes
        return row


def read_checksums(shard: Path) -> dict[int, ShardVideo]:
    """The videos of a shard by their first rows, in one pass over all rows. Raises VideoError."""
    import mindspore.dataset as ds

    found: dict[int, ShardVideo] = {}
    begun, name, count, size, digest = 0, "", 0, 0, sha256()
    try:
        rows = ds.MindDataset(str(shard), shuffle=False, num_parallel_workers=1)
        for place, row in enumerate(rows.create_dict_iterator(num_epochs=1, output_numpy=True)):
            first, frames, values = int(row["first"]), int(row["frames"]), row["latents"].tobytes()
            if first == 0:
                begun, name, count, size, digest = place, str(row["name"]), 0, 0, sha256()
            if str(row["name"]) != name or first > count or frames < 1:
                raise VideoError(shard, f"row {place} does not continue the row before")
            new = values[(count - first) * len(values) // frames :]  # the others repeat the row before
            digest.update(new)
            count, size = first + frames, size + len(new)
            found[begun] = ShardVideo(name, count, size, digest.hexdigest())
    except RuntimeError as error:
        raise VideoError(shard, "cannot be read") from error
    return found


def _row_bytes(values: NDArray[np.generic], rows: tuple[int, int]) -> int:
    """Bytes of a video's rows, including repeats."""
    repeats = (len(row_starts(len(values), rows)) - 1) * rows[1]
    return int(values.nbytes // max(1, len(values)) * (len(values) + repeats))


def _reserve(folder: Path, size: int) -> None:
    """Raise OSError if the disk has no room for a shard: MindRecord would give an obscure error or crash."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size + size // 50 + HEAD_BYTES)
    ballast.unlink()
