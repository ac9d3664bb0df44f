"""Encode every video once, so that training reads latents. Interrupted runs produce the same cache."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from latte_cli.core.arrays import Array
from latte_cli.core.data.clips.ahead import decode_ahead
from latte_cli.core.data.clips.encoding import encode_full_batches
from latte_cli.core.data.latent_cache.check import Checked, EntryFault, strike_off_entries
from latte_cli.core.data.latent_cache.classes import classify
from latte_cli.core.data.latent_cache.job import JOB, Job, read_job, write_job
from latte_cli.core.data.latent_cache.manifest import (
    Header,
    read_header,
    read_manifest,
    repair_manifest,
    write_header,
    write_manifest,
)
from latte_cli.core.data.latent_cache.mindrecord import row_layout
from latte_cli.core.data.latent_cache.open import vae_hash
from latte_cli.core.data.latent_cache.plan import (
    Group,
    agreed_header,
    check_place,
    clear_barren,
    clear_out,
    clear_up,
    pending,
    plan_shards,
    trim_plan,
)
from latte_cli.core.data.latent_cache.texts import check_all, clear_texts, strike_off
from latte_cli.core.data.latent_cache.writer import CacheWriter, Status, gather
from latte_cli.core.data.videos.find import VideoFile, count_frames, labelled_videos
from latte_cli.core.data.videos.left_out import LeftOut
from latte_cli.core.errors import LatteError
from latte_cli.core.models.conditions.caching import cache_texts, stores_texts, texts_to_check
from latte_cli.core.parallel.commands import Cluster
from latte_cli.core.parallel.launch import launch, same_command
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.lock import only_run

log = logging.getLogger(__name__)

Encode = Callable[[Array], Array]
KEPT = "finished entries are kept: run the same command again to continue"


@dataclass(frozen=True)
class VideosOpened:
    """Progress of counting the frames of videos that are not in the cache yet."""

    done: int
    total: int


@dataclass(frozen=True)
class CaptionsEncoded:
    """Progress of encoding captions that are not in the cache yet."""

    done: int
    total: int


@dataclass(frozen=True)
class FramesEncoded:
    """Progress of encoding videos; those that were already cached are not counted."""

    videos: int
    total_videos: int
    frames: int
    total_frames: int
    frames_per_second: float


CacheReport = VideosOpened | CaptionsEncoded | FramesEncoded


class CacheRun:
    """Encodes everything that is not yet in the cache: iterate over it for the progress.

    `status` has what was done so far, also after an error or an interruption. Iterating raises LatteError at
    the end if videos failed, or if the run cannot continue; finished entries are kept.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        workers: int = 1,
        resume: int | None = None,
        overwrite: bool = False,
        encode: Encode | None = None,
    ):
        """workers: processes that share the videos by running this command; the files are the same.
        resume: index of the first video, in sorted order; None for all. overwrite: remove the cache first.
        encode: frames (N, 3, H, W) to moments (N, 8, h, w); None loads the settings' autoencoder.
        """
        self.settings = settings
        self.workers = workers
        self.resume = resume
        self.overwrite = overwrite
        self.encode = encode
        self.status = Status()

    def __iter__(self) -> Iterator[CacheReport]:
        """Encode, yielding the progress."""
        with self.prepared() as preparing:
            yield from preparing
            yield from _texts(self.settings)
            job = read_job(_folder(self.settings))
            workers = min(self.workers, len(job.groups))
            try:
                if workers > 1:
                    self._launch(job, workers)
                elif workers:
                    yield from encode_share(CacheWriter(self.settings, job, self.status), self.encode)
            except LatteError as error:
                raise LatteError(f"{error}; {KEPT}") from error
        if failed := self.status.failed:
            count = f"{len(failed)} of {self.status.looked_at} videos could not be cached"
            folder, first = self.settings.cache.dir, failed[0]
            raise LatteError(f"{folder}: {count}, the first {first.name}: {first.reason}")

    @contextmanager
    def prepared(self) -> Iterator[Iterator[CacheReport]]:
        """Lock the cache's folder while workers fill it, and merge their entries at the end.

        The context is an iterator over reports of the preparation, which must be exhausted; after that
        `read_job` returns the job.
        """
        settings, folder = self.settings, _folder(self.settings)
        videos, _ = labelled_videos(settings.data)
        check_place(self.resume, len(videos))
        header = Header.of(settings, vae_hash(settings))
        self.status.start = self.resume or 0
        self.status.looked_at = len(videos) - self.status.start
        with only_run(folder, "latte cache"):
            if self.overwrite:
                clear_out(folder)
                clear_texts(folder)
            else:
                clear_up(folder)
            repair_manifest(folder)
            header = _agree(folder, header, settings)
            try:
                yield self._prepare(folder, header, videos)
                with suppress(LatteError):  # no space for the clean-up: the files are correct
                    entries = read_manifest(folder)
                    write_manifest(folder, entries.values())
                    trim_plan(folder, entries)
            finally:
                clear_up(folder)
                with suppress(LatteError):
                    repair_manifest(folder)
                (folder / JOB).unlink(missing_ok=True)
                clear_barren(folder)

    def _prepare(self, folder: Path, header: Header, videos: Sequence[VideoFile]) -> Iterator[CacheReport]:
        """Determine the job; videos that cannot be opened fail here."""
        data, before = self.settings.data, read_manifest(folder)
        entries, videos = classify(before, videos, self.settings)
        if entries != before:
            write_manifest(folder, entries.values())
        todo = pending(folder, videos, entries, header=header, start=self.status.start)
        frames: dict[str, int] = {}
        lengths = count_frames(todo, data.root, workers=data.workers)
        for number, (video, found) in enumerate(zip(todo, lengths, strict=True), 1):
            if isinstance(found, int):
                frames[video.name] = found
            else:
                self.status.failed.append(LeftOut(video.name, str(found)))
            yield VideosOpened(number, len(todo))
        readable = [video for video in todo if video.name in frames]
        if header.type == "numpy":
            groups = [Group((video,)) for video in readable]
        else:
            groups = plan_shards(folder, readable, entries, frames=frames, frame_bytes=header.frame_bytes())
        write_job(Job(folder, header, groups, frames))

    def _launch(self, job: Job, workers: int) -> None:
        """Run the job with workers. Raises KeyboardInterrupt if they were stopped."""
        log_dir = self.settings.run_dir / "logs" / "cache"
        try:
            code = launch(same_command(), Cluster(workers), log_dir=log_dir, collective=False)
        finally:
            gather(job, self.status)
        if code:
            raise KeyboardInterrupt


def run_share(settings: Settings, *, rank: int, world: int) -> Iterator[CacheReport]:
    """One worker's share of a run that a `CacheRun` prepared; failed videos are written to a file for it."""
    job = read_job(_folder(settings))
    yield from encode_share(CacheWriter(settings, job, Status(), rank=rank, world=world))


def encode_share(writer: CacheWriter, encode: Encode | None = None) -> Iterator[FramesEncoded]:
    """Encode the writer's share of its job; see `CacheRun` for `encode`."""
    settings, job = writer.settings, writer.job
    if encode is None:
        from latte_cli.core.machine.device import use_device
        from latte_cli.core.models.vae.autoencoder import load_vae

        use_device(settings.device)
        encode = load_vae(settings.vae).encode
    chunk = settings.vae.batch_frames
    videos = writer.videos
    total = sum(job.frames[video.name] for video in videos)
    pieces = decode_ahead(videos, settings.data, piece_frames=chunk, mirror=job.header.mirror)
    begun, frames, ended = time.perf_counter(), 0, 0
    copies = 1 + job.header.mirror
    with closing(pieces), closing(writer):  # type: ignore[type-var]
        for encoded in encode_full_batches(pieces, encode, chunk):
            writer.take(encoded)
            if encoded.moments is None:
                ended += 1
            else:
                frames += len(encoded.moments)
            yield FramesEncoded(
                videos=ended,
                total_videos=len(videos),
                frames=frames // copies,
                total_frames=total,
                frames_per_second=frames / copies / (time.perf_counter() - begun),
            )


def verify(settings: Settings, *, repair: bool = False) -> Iterator[Checked]:
    """Check every entry of the cache; with `repair`, remove faulty ones so that a run encodes them again.

    If available, the videos, the autoencoder and the text encoder are compared with those of the cache.
    """
    folder = _folder(settings)
    header = read_header(folder)
    if header is None:
        raise LatteError(f"cache.dir: {folder}: contains no cache: run latte cache first")
    vae = vae_hash(settings) if _has_vae(settings) else header.vae
    if differences := header.differences(Header.of(settings, vae), reading=True):
        raise LatteError(f"cache.dir: {folder}: all entries are stale: {'; '.join(differences)}")
    at_hand = settings.data.root is not None and settings.data.root.exists()
    videos, unlisted = labelled_videos(settings.data) if at_hand else (None, [])
    texts = texts_to_check(settings, videos)
    checks = partial(check_all, folder, header, videos, texts, unlisted={video.name for video in unlisted})
    if not repair:
        yield from checks()
        return
    with only_run(folder, "latte cache"):
        repair_manifest(folder)
        faults: dict[str, EntryFault] = {}
        for checked in checks():
            if checked.fault is not None:
                faults[checked.fault.name] = checked.fault
            yield checked
        strike_off(folder, faults)
        strike_off_entries(folder, faults)


def _has_vae(settings: Settings) -> bool:
    """Whether the autoencoder is available; logs a warning if the file does not exist."""
    weights = settings.vae.weights
    if weights is None or weights == "demo":
        return weights is not None
    if not (there := Path(weights).exists()):
        log.warning("vae.weights: %s: no such file; not compared with the cache's autoencoder", weights)
    return there


def _texts(settings: Settings) -> Iterator[CacheReport]:
    """Encode the captions that are not yet in the cache, if it stores captions."""
    if stores_texts(settings):
        names = [video.name for video in labelled_videos(settings.data)[0]]
        for done, total in cache_texts(settings, _folder(settings), names):
            yield CaptionsEncoded(done, total)


def _folder(settings: Settings) -> Path:
    if settings.cache.dir is None:
        raise LatteError("cache.dir: not set, expected a folder for the latents (--out)")
    return settings.cache.dir


def _agree(folder: Path, expected: Header, settings: Settings) -> Header:
    """The header of the existing cache, or a new one, which is written."""
    found = agreed_header(folder, expected)
    if found is not None:
        return found
    if expected.type == "mindrecord":
        data = settings.data
        span = (data.num_frames - 1) * data.frame_stride + 1
        expected = expected.model_copy(update={"rows": row_layout(span, expected.frame_bytes())})
    write_header(folder, expected)
    return expected
