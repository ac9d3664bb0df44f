"""Plan a run of `latte cache`: which videos, in which shards, and the clean-up after a crashed run.

A video's shard is chosen once and recorded in shards.json, so that interrupted and parallel runs produce the
same shards as others.
"""

import json
import logging
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from latte_cli.core.data.latent_cache.manifest import (
    HEADER,
    MANIFEST,
    Entry,
    Header,
    read_header,
    read_manifest,
    unchanged,
)
from latte_cli.core.data.latent_cache.mindrecord import SHARD_BYTES, shard_name, shard_number
from latte_cli.core.data.latent_cache.numpy_files import HEAD_BYTES, LATENTS
from latte_cli.core.data.latent_cache.shard_sums import shard_fault
from latte_cli.core.data.videos.find import VideoFile
from latte_cli.core.errors import LatteError, printable
from latte_cli.core.storage.files import remove_empty, remove_folder, write_file
from latte_cli.core.storage.json_files import BULKY_BYTES, read_json
from latte_cli.core.storage.lock import LOCK
from latte_cli.core.storage.names import resolves_inside

log = logging.getLogger(__name__)

PLAN = "shards.json"
SPOOL = ".spool"


@dataclass(frozen=True)
class Group:
    """Videos that are finished together: one, or those of a shard."""

    videos: tuple[VideoFile, ...]
    shard: int | None = None


def agreed_header(folder: Path, expected: Header) -> Header | None:
    """The header of the existing cache, or None. Raises LatteError naming differences to `expected`."""
    if folder.is_file():
        raise LatteError(f"cache.dir: {folder}: is a file, expected a folder")
    found = read_header(folder)
    if found is not None and (differences := found.differences(expected, reading=False)):
        raise LatteError(f"cache.dir: {folder}: {'; '.join(differences)}: use another --out, or --overwrite")
    return found


def check_place(resume: int | None, videos: int) -> None:
    """Raise LatteError if --resume is not the index of a video."""
    if resume is not None and not 0 <= resume < videos:
        raise LatteError(f"--resume {resume}: expected auto, or the index of a video: 0 to {videos - 1}")


def pending(
    folder: Path, videos: Sequence[VideoFile], entries: Mapping[str, Entry], *, header: Header, start: int
) -> list[VideoFile]:
    """The videos from index `start` without a complete, current entry made with the settings of `header`."""
    settings = header.digest()
    look_at = cache(shard_fault)
    return [
        video
        for video in videos[start:]
        if (entry := entries.get(video.name)) is None
        or entry.settings != settings
        or entry.fault(header) is not None
        or not is_there(folder, entry, look_at)
        or not unchanged(entry, video)
    ]


def is_there(folder: Path, entry: Entry, look_at: Callable[[Path], str | None] = shard_fault) -> bool:
    """Whether an entry's file exists and, unless it is a shard, has the right length. Does not read it.

    look_at: `shard_fault`, or a cached version of it.
    """
    path = folder / entry.file
    if entry.row is not None:
        return look_at(path) is None
    try:
        return path.stat().st_size == HEAD_BYTES + math.prod(entry.shape) * np.dtype(entry.dtype).itemsize
    except OSError:
        return False


def plan_shards(
    folder: Path,
    todo: Sequence[VideoFile],
    entries: Mapping[str, Entry],
    *,
    frames: Mapping[str, int],
    frame_bytes: int,
) -> list[Group]:
    """Assign videos to shards: planned ones to their shard, the others in order to new ones; writes
    shards.json.

    A shard with a complete entry of another video gets no more videos. If the plan was lost, numbering
    continues after the existing shards.
    """
    plan = _read_plan(folder)
    made = [shard_number(entry.file) for entry in entries.values() if entry.row is not None]
    plan += [[]] * (max(made, default=-1) + 1 - len(plan))
    by_name = {video.name: video for video in todo}
    look_at = cache(shard_fault)
    closed = {
        entry.file
        for entry in entries.values()
        if entry.name not in by_name and is_there(folder, entry, look_at)
    }
    groups: list[Group] = []
    placed: set[str] = set()
    for number, names in enumerate(plan):
        chosen = tuple(by_name[name] for name in names if name in by_name and name not in placed)
        if chosen and shard_name(number) not in closed:
            groups.append(Group(chosen, number))
            placed.update(video.name for video in chosen)
    room = 0
    added: list[list[VideoFile]] = []
    for video in todo:
        if video.name not in placed:
            size = frames[video.name] * frame_bytes
            if not added or size > room:
                added.append([])
                room = SHARD_BYTES
            added[-1].append(video)
            room -= size
    groups += [Group(tuple(videos), len(plan) + place) for place, videos in enumerate(added)]
    if added:
        _write_plan(folder, plan + [[video.name for video in videos] for videos in added])
    return groups


def trim_plan(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Remove empty shards from the end of the plan: a video that failed again got a separate one."""
    plan = _read_plan(folder)
    made = {entry.file for entry in entries.values()}
    length = max((number + 1 for number in range(len(plan)) if shard_name(number) in made), default=0)
    if length < len(plan):
        _write_plan(folder, plan[:length])


def clear_up(folder: Path) -> None:
    """Remove unfinished files of a crashed run."""
    remove_folder(folder / SPOOL)
    left = [*folder.glob(".*partial*"), *folder.glob("failed.*.jsonl")]
    if resolves_inside(folder, LATENTS):
        left += (folder / LATENTS).glob(".*partial*")
    for path in left:
        path.unlink(missing_ok=True)
    for path in folder.glob(".shard-*"):
        remove_folder(path)


def clear_out(folder: Path) -> None:
    """Remove a complete cache, but no other files in its folder."""
    clear_up(folder)
    shutil.rmtree(folder / LATENTS, ignore_errors=True)
    for pattern in (
        "manifest*.jsonl",
        "shard-*.mindrecord",
        "shard-*.mindrecord.db",
        "shard-*.sums",
        PLAN,
        "cache.json",
    ):
        for path in folder.glob(pattern):
            path.unlink()


def clear_barren(folder: Path) -> None:
    """Remove the header and plan of a run that has written no entry or text."""
    with suppress(OSError):  # leftovers do no harm
        remove_empty([folder / LATENTS])
        left = {path.name for path in folder.iterdir()} - {LOCK}
        if left <= {HEADER, MANIFEST, PLAN} and not read_manifest(folder):
            for name in left:
                (folder / name).unlink()


def _write_plan(folder: Path, plan: Sequence[Sequence[str]]) -> None:
    write_file(folder / PLAN, json.dumps(plan, indent=1) + "\n")


def _read_plan(folder: Path) -> list[list[str]]:
    """The names in each shard; empty if the plan is missing or damaged."""
    path = folder / PLAN
    try:
        plan = read_json(path, list[Any], most=BULKY_BYTES) if path.exists() else []
        if not all(
            isinstance(names, list) and all(isinstance(name, str) for name in names) for names in plan
        ):
            raise LatteError(f"{path}: found other values, expected lists of names")
    except LatteError as error:
        log.warning("%s: a new plan of the shards is made", printable(str(error)))
        return []
    return plan
