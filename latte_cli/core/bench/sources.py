"""What a row trains on: the experiment's own clips where they are there, else noise of their size."""

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
    """What a row trains on, and that in words."""

    kind: Literal["videos", "synthetic frames", "cache", "memory", "synthetic moments"]
    text: str


def choose_source(settings: Settings, *, cached: bool) -> Chosen:
    """The experiment's own data, of frames or `cached`, where they are there; else noise, and why."""
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
    """The clips, what makes moments of frames, and the data in words; as training opens them.

    Raises LatteError when frames are wanted and there is no autoencoder.
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


def _lack(name: str, path: Path | None) -> str:
    return f"{name} is not set" if path is None else f"{name} {path} is not there"
