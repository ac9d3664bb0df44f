"""Checking a cache: every entry against its checksum, its video and the settings that made it."""

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
    """An entry that is not as it should be."""

    kind: Literal["missing", "torn", "stale"]
    name: str
    reason: str


@dataclass(frozen=True)
class Checked:
    """One entry looked at: its fault, if it has one."""

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
    """Look at every entry, and at every video that should have one (None: the videos are not at hand).

    unlisted: names of videos that are there too, but need no entry.
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
    """Take faulty entries off the manifest, so that a run encodes their videos anew, and remove their files.

    A shard with a damaged entry is written again as a whole, so all of its entries are struck off; where one
    is only stale the others stay.
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
    """What is wrong with an entry itself. look_into: see `_look_into`."""
    if entry.settings != header.digest():
        return EntryFault("stale", entry.name, "was made with other settings than cache.json says")
    if (fault := entry.fault(header)) is not None:
        return EntryFault("torn", entry.name, fault)
    in_shard = entry.row is not None
    fault = _rows_fault(look_into(folder / entry.file), entry) if in_shard else _file_fault(folder, entry)
    kind: Literal["missing", "torn"] = "missing" if fault == "is missing" else "torn"
    return None if fault is None else EntryFault(kind, entry.name, f"{entry.file} {fault}")


def _file_fault(folder: Path, entry: Entry) -> str | None:
    """What is wrong with an entry's own file, if anything."""
    path = folder / entry.file
    if not path.exists():
        return "is missing"
    if not is_there(folder, entry):
        return "is not of its length"
    try:
        values = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        return f"cannot be read: {str(error).splitlines()[0]}"
    right = values.shape == entry.shape and checksum(values) == entry.checksum
    return None if right else "does not match its checksum"


def _rows_fault(shard: Mapping[int, ShardVideo] | str, entry: Entry) -> str | None:
    """What is wrong with an entry's rows in its shard, if anything."""
    if isinstance(shard, str):
        return shard
    found = shard.get(entry.row or 0)
    if found is None or found.name != entry.name:
        return f"does not hold {entry.name} where the manifest says"
    size = math.prod(entry.shape) * np.dtype(entry.dtype).itemsize
    right = found[1:] == (entry.frames, size, entry.checksum) and entry.shape[0] == entry.frames
    return None if right else "does not match its checksum"


def _look_into(shard: Path) -> Mapping[int, ShardVideo] | str:
    """The videos that a shard holds by their first rows, or what is wrong with it."""
    if (fault := shard_fault(shard, content=True)) is not None:
        return fault
    try:
        return read_checksums(shard)
    except VideoError as error:
        return error.reason


def _check_source(entry: Entry, video: VideoFile | None) -> EntryFault | None:
    """Whether the video an entry was made of is still that."""
    if video is None:
        return EntryFault("stale", entry.name, "its video is gone")
    return None if unchanged(entry, video) else EntryFault("stale", entry.name, "its video has changed since")
