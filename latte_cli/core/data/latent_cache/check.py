"""Checking a cache: every entry against its checksum, its video and the settings that made it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np

from latte_cli.core.data.latent_cache.manifest import Entry, Header, read_manifest, unchanged, write_manifest
from latte_cli.core.data.latent_cache.mindrecord import read_video, shard_fault
from latte_cli.core.data.latent_cache.numpy_files import checksum, entry_file
from latte_cli.core.data.latent_cache.plan import is_there
from latte_cli.core.data.videos.find import VideoFile
from latte_cli.core.data.videos.video import VideoError


@dataclass(frozen=True)
class Fault:
    """An entry that is not as it should be."""

    kind: Literal["missing", "torn", "stale"]
    name: str
    reason: str


@dataclass(frozen=True)
class Checked:
    """One entry looked at: its fault, if it has one."""

    done: int
    total: int
    fault: Fault | None


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
    entries = read_manifest(folder)
    look_at = lru_cache(None)(partial(shard_fault, content=True))
    by_name = {video.name: video for video in videos or ()}
    names = [*entries, *(name for name in by_name if name not in entries)]
    for done, name in enumerate(names, 1):
        if name not in entries:
            fault: Fault | None = Fault("missing", name, "has no entry")
        else:
            fault = _check(folder, header, entries[name], look_at)
            if fault is None and videos is not None and name not in unlisted:
                fault = _check_source(entries[name], by_name.get(name))
        yield Checked(done, len(names), fault)


def strike_off_entries(folder: Path, faults: Mapping[str, Fault]) -> None:
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
        if entry.file == entry_file(entry.name):
            (folder / entry.file).unlink(missing_ok=True)


def _check(folder: Path, header: Header, entry: Entry, look_at: Callable[[Path], str | None]) -> Fault | None:
    """What is wrong with an entry itself. look_at: what is wrong with a shard."""
    if entry.settings != header.digest():
        return Fault("stale", entry.name, "was made with other settings than cache.json says")
    path = folder / entry.file
    fault = look_at(path) if entry.row is not None else None if path.exists() else "is missing"
    if fault is None and not is_there(folder, entry):
        fault = "is not of its length"
    if fault is None:
        fault = _check_values(folder, header, entry)
    kind: Literal["missing", "torn"] = "missing" if fault == "is missing" else "torn"
    return None if fault is None else Fault(kind, entry.name, f"{entry.file} {fault}")


def _check_values(folder: Path, header: Header, entry: Entry) -> str | None:
    """What is wrong with an entry's values, if anything."""
    try:
        if entry.row is None:
            values = np.load(folder / entry.file, mmap_mode="r")
        else:
            assert header.rows is not None
            values = read_video(folder, entry, header.rows)
    except (OSError, ValueError, EOFError, VideoError) as error:
        return f"cannot be read: {str(error).splitlines()[0]}"
    right = values.shape == entry.shape and checksum(values) == entry.checksum
    return None if right else "does not match its checksum"


def _check_source(entry: Entry, video: VideoFile | None) -> Fault | None:
    """Whether the video an entry was made of is still that."""
    if video is None:
        return Fault("stale", entry.name, "its video is gone")
    return None if unchanged(entry, video) else Fault("stale", entry.name, "its video has changed since")
