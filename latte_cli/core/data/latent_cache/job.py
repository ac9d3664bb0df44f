"""The work of a run of `latte cache`, written to a file for its workers."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latte_cli.core.data.latent_cache.manifest import Header, read_header
from latte_cli.core.data.latent_cache.plan import Group
from latte_cli.core.data.videos.find import VideoFile
from latte_cli.core.storage.files import write_file
from latte_cli.core.storage.json_files import BULKY_BYTES, Count, Model, read_json

JOB = "job.json"


@dataclass(frozen=True)
class Job:
    """The work of a run, the same for every worker."""

    folder: Path
    header: Header
    groups: Sequence[Group]
    frames: dict[str, int]


class _Video(Model):
    """A video of a job."""

    path: str
    """The path's bytes as Latin-1, because folder names may not be UTF-8."""
    name: str
    label: int | None
    class_name: str | None


class _Group(Model):
    """Videos that are finished together."""

    videos: tuple[_Video, ...]
    shard: int | None


class _Work(Model):
    """The part of a job that is not known from its folder."""

    groups: tuple[_Group, ...]
    frames: dict[str, Count]


def write_job(job: Job) -> None:
    """Write a job to the cache folder for all workers."""
    groups = tuple(
        _Group(
            videos=tuple(
                _Video(
                    path=os.fsencode(video.path).decode("latin-1"),
                    name=video.name,
                    label=video.label,
                    class_name=video.class_name,
                )
                for video in group.videos
            ),
            shard=group.shard,
        )
        for group in job.groups
    )
    work = _Work(groups=groups, frames=job.frames)
    write_file(job.folder / JOB, work.model_dump_json())


def read_job(folder: Path) -> Job:
    """Read the job written by the run that has locked the folder."""
    header = read_header(folder)
    hint = f"no run is in progress in {folder}: start workers with latte cache --parallel N"
    work = read_json(folder / JOB, _Work, missing=hint, most=BULKY_BYTES)
    assert header is not None
    groups = [
        Group(
            tuple(
                VideoFile(
                    Path(os.fsdecode(video.path.encode("latin-1"))),
                    video.name,
                    video.label,
                    video.class_name,
                )
                for video in group.videos
            ),
            group.shard,
        )
        for group in work.groups
    ]
    return Job(folder, header, groups, work.frames)
