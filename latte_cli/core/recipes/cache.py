"""Encode every video once, so that training reads latents. Interrupted runs produce the same cache."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

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
class CacheReport:
    """Progress of a run; videos and frames that were already cached are counted in `skipped` only."""

    doing: Literal["looking", "encoding", "reading"]
    """The activity: opening videos, encoding them, or encoding captions, which `videos` then counts."""
    videos: int
    total_videos: int
    frames: int
    total_frames: int
    frames_per_second: float
    skipped: int


def run(
    settings: Settings,
    *,
    status: Status,
    workers: int = 1,
    resume: int | None = None,
    overwrite: bool = False,
    encode: Encode | None = None,
) -> Iterator[CacheReport]:
    """Encode everything that is not yet in the cache, yielding the progress.

    workers: processes on this machine that share the videos by running this command; the files are the same.
    resume: index of the first video, in sorted order; None for all. overwrite: remove the cache first.
    encode: frames (N, 3, H, W) to moments (N, 8, h, w); None loads the settings' autoencoder. Raises
    LatteError at the end if videos failed, or if the run cannot continue; finished entries are kept.
    """
    with prepared(settings, status=status, resume=resume, overwrite=overwrite) as preparing:
        yield from preparing
        yield from _texts(settings)
        job = read_job(_folder(settings))
        workers = min(workers, len(job.groups))
        try:
            if workers > 1:
                _launch(settings, job, workers, status)
            elif workers:
                yield from work(settings, job, status=status, encode=encode)
        except LatteError as error:
            raise LatteError(f"{error}; {KEPT}") from error
    _complain(settings, status)


def _launch(settings: Settings, job: Job, workers: int, status: Status) -> None:
    """Run the job with workers. Raises KeyboardInterrupt if they were stopped."""
    log_dir = settings.run_dir / "logs" / "cache"
    try:
        code = launch(same_command(), Cluster(workers), log_dir=log_dir, collective=False)
    finally:
        gather(job, status)
    if code:
        raise KeyboardInterrupt


def run_share(settings: Settings, *, rank: int, world: int) -> Iterator[CacheReport]:
    """One worker's share of a run prepared by `run`; failed videos are written to a file for it."""
    job = read_job(_folder(settings))
    status = Status()
    yield from work(settings, job, status=status, rank=rank, world=world)


@contextmanager
def prepared(
    settings: Settings, *, status: Status, resume: int | None = None, overwrite: bool = False
) -> Iterator[Iterator[CacheReport]]:
    """Lock the cache's folder while workers fill it, and merge their entries at the end.

    The context is an iterator over reports of the preparation, which must be exhausted; after that `read_job`
    returns the job.
    """
    folder = _folder(settings)
    videos, _ = labelled_videos(settings.data)
    check_place(resume, len(videos))
    header = Header.of(settings, vae_hash(settings))
    status.start = resume or 0
    status.looked_at = len(videos) - status.start
    with only_run(folder, "latte cache"):
        if overwrite:
            clear_out(folder)
            clear_texts(folder)
        else:
            clear_up(folder)
        repair_manifest(folder)
        header = _agree(folder, header, settings)
        try:
            yield _prepare(folder, header, videos, settings, status)
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
            yield CacheReport("reading", done, total, 0, 0, 0.0, 0)


def work(
    settings: Settings,
    job: Job,
    *,
    status: Status,
    encode: Encode | None = None,
    rank: int = 0,
    world: int = 1,
) -> Iterator[CacheReport]:
    """Encode this worker's share of the job: every `world`-th group from `rank`."""
    groups = job.groups[rank::world]
    writer = CacheWriter(settings, job, groups, status, rank, world)
    if encode is None:
        from latte_cli.core.machine.device import use_device
        from latte_cli.core.models.vae.autoencoder import load_vae

        use_device(settings.device)
        encode = load_vae(settings.vae).encode
    chunk = settings.vae.batch_frames
    videos = [video for group in groups for video in group.videos]
    total = sum(job.frames[video.name] for video in videos)
    pieces = decode_ahead(videos, settings.data, piece_frames=chunk, mirror=job.header.mirror)
    begun, frames, given_up = time.perf_counter(), 0, len(status.failed)
    copies = 1 + job.header.mirror
    with closing(pieces), closing(writer):  # type: ignore[type-var]
        for encoded in encode_full_batches(pieces, encode, chunk):
            writer.take(encoded)
            frames += 0 if encoded.moments is None else len(encoded.moments)
            yield CacheReport(
                doing="encoding",
                videos=status.saved + len(status.failed) - given_up,
                total_videos=len(videos),
                frames=frames // copies,
                total_frames=total,
                frames_per_second=frames / copies / (time.perf_counter() - begun),
                skipped=job.skipped,
            )


def _complain(settings: Settings, status: Status) -> None:
    """Raise LatteError if videos failed."""
    if status.failed:
        first = status.failed[0]
        count = f"{len(status.failed)} of {status.looked_at} videos could not be cached"
        raise LatteError(f"{settings.cache.dir}: {count}, the first {first.name}: {first.reason}")


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


def _prepare(
    folder: Path, header: Header, videos: Sequence[VideoFile], settings: Settings, status: Status
) -> Iterator[CacheReport]:
    """Determine the job; videos that cannot be opened fail here."""
    before = read_manifest(folder)
    entries, videos = classify(before, videos, settings)
    if entries != before:
        write_manifest(folder, entries.values())
    todo = pending(folder, videos, entries, header=header, start=status.start)
    skipped = len(videos) - status.start - len(todo)
    frames: dict[str, int] = {}
    lengths = count_frames(todo, settings.data.root, workers=settings.data.workers)
    for number, (video, found) in enumerate(zip(todo, lengths, strict=True), 1):
        if isinstance(found, int):
            frames[video.name] = found
        else:
            status.failed.append(LeftOut(video.name, str(found)))
        yield CacheReport("looking", number, len(todo), 0, 0, 0.0, skipped)
    readable = [video for video in todo if video.name in frames]
    if header.type == "numpy":
        groups = [Group((video,)) for video in readable]
    else:
        groups = plan_shards(folder, readable, entries, frames=frames, frame_bytes=header.frame_bytes())
    write_job(Job(folder, header, groups, frames, skipped))
