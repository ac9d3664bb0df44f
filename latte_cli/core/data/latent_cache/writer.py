"""Write encoded videos and their manifest entries, and collect the results of a run's workers."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from latte_cli.core.arrays import Array
from latte_cli.core.data.clips.ahead import VideoState
from latte_cli.core.data.clips.encoding import Encoded, draw_latents
from latte_cli.core.data.latent_cache.job import Job
from latte_cli.core.data.latent_cache.manifest import (
    WORKERS_MANIFESTS,
    Entry,
    append_entries,
)
from latte_cli.core.data.latent_cache.mindrecord import shard_name, write_shard
from latte_cli.core.data.latent_cache.numpy_files import GrowingFile, entry_file, stored_noise
from latte_cli.core.data.latent_cache.plan import SPOOL
from latte_cli.core.data.videos.find import VideoFile
from latte_cli.core.data.videos.left_out import LeftOut
from latte_cli.core.errors import one_line, printable
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.journal import Journal
from latte_cli.core.storage.json_files import Model

log = logging.getLogger(__name__)


@dataclass
class Status:
    """Progress of a run, updated while it runs and printed when it stops."""

    start: int = 0
    looked_at: int = 0
    saved: int = 0
    failed: list[LeftOut] = field(default_factory=list)

    def lines(self) -> str:
        """The status in the format of the original scripts, and each failure."""
        counts = f"Saving Attempts: 0: save {self.saved} videos, failed {len(self.failed)} videos.\n"
        failures = "".join(f"{one_line(f'failed: {video.name}: {video.reason}')}\n" for video in self.failed)
        return f"Start Video Index: {self.start}.\n{counts}{failures}"


class _Failed(Model):
    """A video that a worker could not cache."""

    name: str
    reason: str


def gather(job: Job, status: Status) -> None:
    """Add the results of a job's workers to the status of the run."""
    names = (video.name for group in job.groups for video in group.videos)
    order = {name: place for place, name in enumerate(names)}
    for path in sorted(job.folder.glob("failed.*.jsonl")):
        failed = [LeftOut(line.name, line.reason) for line in Journal(path, _Failed).read()]
        status.failed += sorted(failed, key=lambda video: order[video.name])
        path.unlink()
    status.saved += sum(path.read_bytes().count(b"\n") for path in job.folder.glob(WORKERS_MANIFESTS))


class CacheWriter:
    """Writes a worker's share of a job to disk, group by group, and adds it to the manifest and `status`.

    The share is every `world`-th group from `rank`.
    """

    def __init__(
        self, settings: Settings, job: Job, status: Status, *, rank: int = 0, world: int = 1
    ) -> None:
        self.settings = settings
        self.job = job
        self.status = status
        self.rank = rank
        self.world = world
        groups = job.groups[rank::world]
        self.videos = [video for group in groups for video in group.videos]
        self.group_of = {video.name: group for group in groups for video in group.videos}
        self.open: dict[str, GrowingFile] = {}
        self.finished: list[Entry] = []  # of the current shard

    def take(self, encoded: Encoded) -> None:
        """Process the next moments, or the end of a video."""
        piece = encoded.piece
        if encoded.moments is not None:
            self._append(piece.video, encoded.moments)
            return
        file = self.open.pop(piece.video.name, None)
        if piece.source is not None and file is not None:
            self._finish(piece.video, piece.source, file)
        else:
            if file is not None:
                file.abandon()
            self._fail(piece.video, piece.fault or "has no frames")
        group = self.group_of[piece.video.name]
        if group.shard is not None and piece.video is group.videos[-1]:
            self._write_shard(group.shard)

    def _fail(self, video: VideoFile, reason: str) -> None:
        """Record a failed video, also on disk for the main process."""
        log.warning("%s: %s", printable(video.name), reason)
        self.status.failed.append(LeftOut(video.name, reason))
        if self.world > 1:
            failures = Journal(self.job.folder / f"failed.{self.rank}.jsonl", _Failed)
            failures.append([_Failed(name=video.name, reason=reason)])

    def close(self) -> None:
        """Remove unfinished files."""
        for file in self.open.values():
            file.abandon()

    def _append(self, video: VideoFile, moments: Array) -> None:
        header = self.job.header
        if video.name not in self.open:
            self.open[video.name] = GrowingFile(self._target(video), header.dtype)
        file = self.open[video.name]
        if header.store == "sample":
            moments = self._draw(video, moments, file.count)
        file.append(moments)

    def _draw(self, video: VideoFile, moments: Array, first: int) -> Array:
        """One scaled sample of each image's latents."""
        copies = 1 + self.job.header.mirror
        shape = (moments.shape[1] // 2, *moments.shape[2:])
        noise = [
            stored_noise(self.settings.seed, video.name, place // copies, bool(place % copies), shape=shape)
            for place in range(first, first + len(moments))
        ]
        return draw_latents(moments, np.stack(noise), self.settings.vae.scaling_factor)

    def _target(self, video: VideoFile) -> Path:
        name = entry_file(video.name)
        in_shard = self.group_of[video.name].shard is not None
        return self.job.folder / SPOOL / Path(name).name if in_shard else self.job.folder / name

    def _finish(self, video: VideoFile, source: VideoState, file: GrowingFile) -> None:
        """Add a complete video to the manifest, or keep it for its shard."""
        shape = file.finish(1 + self.job.header.mirror)
        entry = Entry(
            name=video.name,
            source=os.fsencode(video.path).decode("utf-8", "backslashreplace"),
            size=source.size,
            mtime_ns=source.mtime_ns,
            sha256=source.sha256,
            frames=source.frames,
            shape=shape,
            dtype=self.job.header.dtype,
            checksum=file.digest.hexdigest(),
            vae=self.job.header.vae,
            settings=self.job.header.digest(),
            file=entry_file(video.name),
            class_name=video.class_name,
            label=video.label,
        )
        if self.group_of[video.name].shard is not None:
            self.finished.append(entry)
        else:
            self._enter([entry])

    def _write_shard(self, number: int) -> None:
        """Write a shard of the videos finished since the last one, and add them to the manifest."""
        if not self.finished:
            return
        rows = self.job.header.rows
        assert rows is not None
        folder, name = self.job.folder, shard_name(number)
        spooled = [(entry, folder / SPOOL / Path(entry.file).name) for entry in self.finished]
        videos = [(entry.name, np.load(path, mmap_mode="r")) for entry, path in spooled]
        first_rows = write_shard(folder / name, videos, rows, settings=self.job.header.digest())
        self._enter(
            [
                entry.model_copy(update={"file": name, "row": first_rows[entry.name]})
                for entry in self.finished
            ]
        )
        for _, path in spooled:
            path.unlink()
        self.finished = []

    def _enter(self, entries: Sequence[Entry]) -> None:
        append_entries(self.job.folder, entries, rank=self.rank, world=self.world)
        self.status.saved += len(entries)
