"""What a row trains on: the experiment's own clips where they are there, else noise of their size."""

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.bench.synthetic import SyntheticSource
from latte_cli.core.data.clips.batches import ClipSource
from latte_cli.core.data.clips.frames import FrameSource
from latte_cli.core.data.clips.memory import MemorySource
from latte_cli.core.data.latent_cache.open import open_cache
from latte_cli.core.data.videos.demo import clips_root
from latte_cli.core.data.videos.find import index_clips
from latte_cli.core.errors import LatteError
from latte_cli.core.models.vae.autoencoder import check_vae, load_vae
from latte_cli.core.settings.schema import Settings

Array = NDArray[np.float32]
Encode: TypeAlias = Callable[[Array], Array]


def open_source(settings: Settings, *, cached: bool) -> tuple[ClipSource, Encode | None, str]:
    """The clips, what makes moments of frames, and the data in words; as training opens them.

    Raises LatteError when frames are wanted and there is no autoencoder.
    """
    videos = has_videos(settings)
    if not cached:
        encode = load_vae(settings.vae).encode
        if not videos:
            return SyntheticSource(settings, "frames"), encode, "synthetic frames"
        return (
            FrameSource(index_clips(settings.data), settings.data),
            encode,
            f"videos of {settings.data.root}",
        )
    if settings.cache.dir is not None and settings.cache.dir.exists():
        return open_cache(settings)[1], None, f"cache {settings.cache.dir}"
    if settings.cache.in_memory and videos and lacks_vae(settings) is None:
        frames = FrameSource(index_clips(settings.data), settings.data)
        mirrored, chunk = settings.data.random_flip, settings.vae.batch_frames
        memory = MemorySource(frames, mirrored=mirrored, chunk=chunk)
        deque(memory.fill(load_vae(settings.vae).encode), maxlen=0)
        return memory, None, f"videos of {settings.data.root}, encoded into memory"
    return SyntheticSource(settings, "moments"), None, "synthetic moments"


def has_videos(settings: Settings) -> bool:
    """Whether data.root is set and there."""
    root = settings.data.root
    try:
        return root is not None and clips_root(root).exists()
    except LatteError:
        return False


def lacks_vae(settings: Settings) -> str | None:
    """Why there is no autoencoder; None when there is one."""
    try:
        check_vae(settings.vae)
    except LatteError as error:
        return str(error)
    return None
