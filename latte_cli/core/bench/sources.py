"""The training data of a row: the experiment's clips if available, else noise of the same size."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from latte_cli.core.arrays import Array
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

Encode: TypeAlias = Callable[[Array], Array]


class Chosen(NamedTuple):
    """The data of a row, and its description."""

    kind: Literal["videos", "synthetic frames", "cache", "memory", "synthetic moments"]
    text: str


def choose_source(settings: Settings, *, cached: bool) -> Chosen:
    """Choose the experiment's data, frames or `cached`, if available, else noise with the reason."""
    root, folder = settings.data.root, settings.cache.dir
    if not cached:
        if has_videos(settings):
            return Chosen("videos", f"videos of {root}")
        return Chosen("synthetic frames", f"synthetic frames ({_lack('data.root', root)})")
    if folder is not None and folder.exists():
        return Chosen("cache", f"cache {folder}")
    if settings.cache.in_memory and has_videos(settings) and lacks_vae(settings) is None:
        return Chosen("memory", f"videos of {root}, encoded into memory")
    return Chosen("synthetic moments", f"synthetic moments ({_lack('cache.dir', folder)})")


def open_source(settings: Settings, *, cached: bool) -> tuple[ClipSource, Encode | None, str]:
    """The clips, the encoder of frames, and a description of the data, as in training.

    Raises LatteError if frames are used and there is no autoencoder.
    """
    kind, text = choose_source(settings, cached=cached)
    if kind == "cache":
        return open_cache(settings)[1], None, text
    if kind == "synthetic moments":
        return SyntheticSource(settings, "moments"), None, text
    encode = load_vae(settings.vae).encode
    if kind == "synthetic frames":
        return SyntheticSource(settings, "frames"), encode, text
    frames = FrameSource(index_clips(settings.data), settings.data)
    if kind == "videos":
        return frames, encode, text
    mirrored, chunk = settings.data.random_flip, settings.vae.batch_frames
    memory = MemorySource(frames, mirrored=mirrored, chunk=chunk)
    deque(memory.fill(encode), maxlen=0)
    return memory, None, text


def has_videos(settings: Settings) -> bool:
    """Whether data.root is set and exists."""
    root = settings.data.root
    try:
        return root is not None and clips_root(root).exists()
    except LatteError:
        return False


def lacks_vae(settings: Settings) -> str | None:
    """Why there is no autoencoder, or None."""
    try:
        check_vae(settings.vae)
    except LatteError as error:
        return str(error)
    return None


def _lack(name: str, path: Path | None) -> str:
    return f"{name} is not set" if path is None else f"{name} {path} does not exist"
