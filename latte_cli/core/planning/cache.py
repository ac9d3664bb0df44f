"""The remaining work of `latte cache`, for its plan. Does not import MindSpore."""

import math
import time

from latte_cli.core.checkpoints.autoencoder import Autoencoder, open_autoencoder
from latte_cli.core.data.clips.ahead import PIECES_AHEAD
from latte_cli.core.data.latent_cache.manifest import Header, read_manifest
from latte_cli.core.data.latent_cache.open import vae_hash
from latte_cli.core.data.latent_cache.plan import agreed_header, check_place, pending
from latte_cli.core.data.videos.find import count_frames, labelled_videos
from latte_cli.core.errors import LatteError
from latte_cli.core.models.vae.memory import OVERHEAD, bytes_per_frame, frames_at_once
from latte_cli.core.planning.autoencoder import encoding_flops
from latte_cli.core.planning.cost import mindspore_memory
from latte_cli.core.planning.plan import SCAN_SECONDS, Plan
from latte_cli.core.planning.room import check_memory
from latte_cli.core.planning.timing import ENCODING, START, Part, add_time
from latte_cli.core.planning.units import bytes_of
from latte_cli.core.settings.schema import Settings

FLOAT32 = 4


def add_caching(plan: Plan, settings: Settings, *, resume: int | None, overwrite: bool) -> None:
    """Add rows on videos, disk, memory and time; a LatteError becomes a problem of the plan."""
    try:
        _add_caching(plan, settings, resume=resume, overwrite=overwrite)
    except LatteError as error:
        if str(error) not in plan.problems:
            plan.problems.append(str(error))


def _add_caching(plan: Plan, settings: Settings, *, resume: int | None, overwrite: bool) -> None:
    folder, data = settings.cache.dir, settings.data
    if folder is None:
        return
    videos, _ = labelled_videos(data)
    check_place(resume, len(videos))
    expected = Header.of(settings, vae_hash(settings))
    found = None if overwrite else agreed_header(folder, expected)
    entries = {} if found is None else read_manifest(folder, skip_damaged=True)
    todo = pending(folder, videos, entries, header=found or expected, start=resume or 0)
    until = time.monotonic() + SCAN_SECONDS
    opened = [
        count
        for count in count_frames(todo, data.root, workers=data.workers, until=until)
        if isinstance(count, int)
    ]
    frames = round(sum(opened) / max(1, len(opened)) * len(todo))
    plan.add("to encode", f"{len(todo)} of {len(videos)} videos, about {frames:,} frames")
    plan.add("disk", f"about {bytes_of(frames * expected.frame_bytes())}")
    autoencoder, images = open_autoencoder(settings.vae.weights), settings.vae.batch_frames
    itself = mindspore_memory(settings.device)
    encoding = _memory(settings, autoencoder)
    parts = f"MindSpore {bytes_of(itself)}, encoding {bytes_of(encoding)}"
    plan.add("memory", f"about {bytes_of(itself + encoding)} per worker: {parts}")
    batches = math.ceil(frames * (1 + expected.mirror) / images)
    add_time(
        plan,
        batches,
        images * encoding_flops(autoencoder.shapes, data.image_size),
        f"batch of {images} frames",
        share=ENCODING,
        others=lambda: (Part("start", START),),
    )


def check_encoding_memory(settings: Settings) -> None:
    """Raise LatteError if a batch of frames cannot be encoded, by a lower bound of the memory."""
    least = _memory(settings, open_autoencoder(settings.vae.weights))
    lower = "vae.chunk_frames, data.workers or data.image_size"
    check_memory("encoding takes", least, settings.device, lower=lower)


def _memory(settings: Settings, autoencoder: Autoencoder) -> int:
    """Bytes of weights, of the values of frames encoded together, and of prefetched frames."""
    side, images = settings.data.image_size, settings.vae.batch_frames
    weights = sum(math.prod(shape) for shape in autoencoder.shapes.values())
    a_frame = bytes_per_frame("encoding", autoencoder.shape, side, side)
    at_once = min(images, frames_at_once(settings.vae.chunk_frames, a_frame))
    ahead = settings.data.workers * PIECES_AHEAD * images * 3 * side**2 * (1 + settings.cache.mirror)
    return FLOAT32 * (weights + ahead) + at_once * a_frame + OVERHEAD
