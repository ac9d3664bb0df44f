"""Verify a cache: every entry against its checksum, its video and the settings it was made with."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from latte_cli.core.data.latent_cache.manifest import (
    Entry,
    Header,
    read_manifest,
    unchanged,
    write_manifest,
)
from latte_cli.core.data.latent_cache.mindrecord import ShardVideo, read_checksums
from latte_cli.core.data.latent_cache.numpy_files import checksum, entry_file
from latte_cli.core.data.latent_cache.plan import is_there
from latte_cli.core.data.latent_cache.shard_sums import shard_fault
from latte_cli.core.data.videos.find import VideoFile
from latte_cli.core.data.videos.video import VideoError
from latte_cli.core.storage.names import resolves_inside


@dataclass(frozen=True)
class EntryFault:
    """A missing, damaged or outdated entry."""

    kind: Literal["missing", "torn", "stale"]
    name: str
    reason: str


@dataclass(frozen=True)
class Checked:
    """A checked entry, with its fault if any."""

    done: int
    total: int
    fault: EntryFault | None


def check_entries(
    folder: Path,
    header: Header,
    videos: Sequence[VideoFile] | None,
    *,
    unlisted: Collection[str] = (),
) -> Iterator[Checked]:
    """Check every entry, and every video that should have one (None: the videos are not available).

    unlisted: names of other existing videos, which need no entry.
    """
    entries = read_manifest(folder, skip_damaged=True)
    look_into = cache(_look_into)
    by_name = {video.name: video for video in videos or ()}
    names = [*entries, *(name for name in by_name if name not in entries)]
    for done, name in enumerate(names, 1):
        if name not in entries:
            fault: EntryFault | None = EntryFault("missing", name, "has no entry")
        else:
            fault = _check(folder, header, entries[name], look_into)
            if fault is None and videos is not None and name not in unlisted:
                fault = _check_source(entries[name], by_name.get(name))
        yield Checked(done, len(names), fault)


def strike_off_entries(folder: Path, faults: Mapping[str, EntryFault]) -> None:
    """Remove faulty entries and their files, so that the next run encodes their videos again.

    A shard with a damaged entry is rewritten completely, so all of its entries are removed; if entries are
    only stale, the others are kept.
    """
    entries = read_manifest(folder)
    struck = {name: entries[name] for name in faults if name in entries}
    damaged = {entry.file for name, entry in struck.items() if faults[name].kind != "stale"}
    write_manifest(
        folder,
        [entry for entry in entries.values() if entry.name not in struck and entry.file not in damaged],
    )
    for entry in struck.values():
        if entry.file == entry_file(entry.name) and resolves_inside(folder, entry.file):
            (folder / entry.file).unlink(missing_ok=True)


def _check(
    folder: Path, header: Header, entry: Entry, look_into: Callable[[Path], Mapping[int, ShardVideo] | str]
) -> EntryFault | None:
    """The fault of an entry itself, or None. look_into: see `_look_into`."""
    if entry.settings != header.digest():
        return EntryFault("stale", entry.name, "was made with other settings than cache.json says")
    if (fault := entry.fault(header)) is not None:
        return EntryFault("torn", entry.name, fault)
    in_shard = entry.row is not None
    fault = _rows_fault(look_into(folder / entry.file), entry) if in_shard else _file_fault(folder, entry)
    kind: Literal["missing", "torn"] = "missing" if fault == "is missing" else "torn"
    return None if fault is None else EntryFault(kind, entry.name, f"{entry.file} {fault}")


def _file_fault(folder: Path, entry: Entry) -> str | None:
    """The fault of an entry's own file, or None."""
    path = folder / entry.file
    if not path.exists():
        return "is missing"
    if not is_there(folder, entry):
        return "has the wrong length"
    try:
        values = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        return f"cannot be read: {str(error).splitlines()[0]}"
    right = values.shape == entry.shape and checksum(values) == entry.checksum
    return None if right else "does not match its checksum"


def _rows_fault(shard: Mapping[int, ShardVideo] | str, entry: Entry) -> str | None:
    """The fault of an entry's rows in its shard, or None."""
    if isinstance(shard, str):
        return shard
    found = shard.get(entry.row or 0)
    if found is None or found.name != entry.name:
        return f"does not contain {entry.name} at the expected row"
    size = math.prod(entry.shape) * np.dtype(entry.dtype).itemsize
    right = found[1:] == (entry.frames, size, entry.checksum) and entry.shape[0] == entry.frames
    return None if right else "does not match its checksum"


def _look_into(shard: Path) -> Mapping[int, ShardVideo] | str:
    """The videos of a shard by their first rows, or its fault."""
    if (fault := shard_fault(shard, content=True)) is not None:
        return fault
    try:
        return read_checksums(shard)
    except VideoError as error:
        return error.reason


def _check_source(entry: Entry, video: VideoFile | None) -> EntryFault | None:
    """A fault if the video of an entry has changed or is missing."""
    if video is None:
        return EntryFault("stale", entry.name, "its video is gone")
    return None if unchanged(entry, video) else EntryFault("stale", entry.name, "its video has changed since")
