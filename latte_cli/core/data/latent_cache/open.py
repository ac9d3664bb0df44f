"""Open a cache of latents for training: ours of either type, or MindONE's with one file per frame."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.checkpoints.autoencoder import find_autoencoder
from latte_cli.core.data.clips.batches import ClipSource, Content
from latte_cli.core.data.latent_cache.classes import class_of, labels_of
from latte_cli.core.data.latent_cache.manifest import AGAIN, MANIFEST, Header, read_header, read_manifest
from latte_cli.core.data.latent_cache.mindrecord import ShardSource
from latte_cli.core.data.latent_cache.numpy_files import NumpySource
from latte_cli.core.data.latent_cache.shard_sums import check_shards
from latte_cli.core.data.videos.find import ClipIndex, VideoFile, natural_order
from latte_cli.core.data.videos.left_out import LeftOut, nothing_left, too_short
from latte_cli.core.data.videos.video import VideoError
from latte_cli.core.errors import LatteError
from latte_cli.core.latents import LATENT_CHANNELS, VAE_FACTOR
from latte_cli.core.settings.schema import DataSettings, Settings
from latte_cli.core.storage.digests import digest_of_files

MINDONE_FRAME = "video_latent-*.npy"


def open_cache(settings: Settings) -> tuple[ClipIndex, ClipSource]:
    """The clips of settings.cache.dir, and the index of its videos with their classes (see `labels_of`).

    Raises LatteError if there is no cache, if it was made with another autoencoder, size or crop (naming each
    difference), or if no video is long enough.
    """
    folder = settings.cache.dir
    if folder is None:
        raise LatteError("cache.dir: not set, expected a folder made by latte cache")
    if not folder.is_dir():
        raise LatteError(f"cache.dir: {folder}: no such folder: run latte cache first")
    header = read_header(folder)
    if header is None:
        return _open_mindone(folder, settings)
    vae = (
        header.vae if settings.vae.weights is None else vae_hash(settings)
    )  # latents alone need no autoencoder
    differences = header.differences(Header.of(settings, vae), reading=True)
    if differences:
        raise LatteError(f"cache.dir: {folder}: {'; '.join(differences)}")
    if settings.data.random_flip and not header.mirror:
        raise LatteError(
            f"data.random_flip: the cache {folder} contains no mirrored copies:"
            " make it with cache.mirror=true, or set false"
        )
    digest = header.digest()
    entries = {name: entry for name, entry in read_manifest(folder).items() if entry.settings == digest}
    for name, entry in entries.items():
        if (fault := entry.fault(header)) is not None:
            raise LatteError(f"{folder / MANIFEST}: {name}: {fault}; {AGAIN}")
    labels = labels_of({name: class_of(entry) for name, entry in entries.items()}, settings)
    index = _index(
        {name: (Path(entry.source), entry.frames) for name, entry in entries.items()},
        labels,
        settings.data,
        folder,
    )
    content: Content = "moments" if header.store == "moments" else "latents"
    if header.type == "numpy":
        return index, NumpySource(folder, index, entries, content)
    assert header.rows is not None
    check_shards(folder, dict.fromkeys(entry.file for entry in entries.values()), digest)
    return index, ShardSource(folder, index, entries, content, rows=header.rows)


def vae_hash(settings: Settings) -> str:
    """SHA-256 of the autoencoder's weights file. Raises LatteError if there is none."""
    files = find_autoencoder(settings.vae.weights).every_weight
    try:
        return digest_of_files(files)
    except OSError as error:
        raise LatteError(f"vae.weights: {files[0]}: cannot be read: {error.strerror or error}") from error


class MindOneSource:
    """Clips from MindONE's numpy cache: one folder per video, one file per frame, samples already scaled. See
    ClipSource."""

    content: Content = "latents"

    def __init__(
        self, index: ClipIndex, files: dict[str, Sequence[Path]], shape: tuple[int, int, int]
    ) -> None:
        self.shape = shape
        self.names = tuple(video.name for video in index.videos)
        self.frames = index.frames
        self.labels = tuple(video.label for video in index.videos)
        self.files = [files[name] for name in self.names]

    def read(self, video: int, indices: list[int], *, mirror: bool) -> NDArray[np.float32]:
        """Frames of one video: (N, 4, h, w). Raises VideoError."""
        return np.stack([self._frame(self.files[video][index]) for index in indices])

    def _frame(self, path: Path) -> NDArray[np.float32]:
        try:
            values = np.load(path, mmap_mode="r")  # a header may claim more than the file contains
        except (OSError, ValueError, EOFError) as error:
            raise VideoError(path, "cannot be read") from error
        if getattr(values, "shape", None) != self.shape:
            raise VideoError(path, f"contains no latents of shape {self.shape}")
        return np.asarray(values, np.float32)


def _open_mindone(folder: Path, settings: Settings) -> tuple[ClipIndex, ClipSource]:
    """MindONE's layout: `video_latent-<frame>.npy`, ordered by the last number of the frame's name."""
    files: dict[str, Sequence[Path]] = {}
    for path in folder.rglob(MINDONE_FRAME):
        files.setdefault(str(path.parent.relative_to(folder).as_posix()), [])
    if not files:
        raise LatteError(f"cache.dir: {folder}: contains no cache: run latte cache first")
    if settings.data.random_flip:
        raise LatteError(f"data.random_flip: the cache {folder} contains no mirrored copies: set false")
    for name in files:
        files[name] = sorted((folder / name).glob(MINDONE_FRAME), key=_frame_number)
    ordered = {name: files[name] for name in sorted(files, key=natural_order)}
    labels = labels_of(dict.fromkeys(ordered), settings)
    index = _index(
        {name: (folder / name, len(paths)) for name, paths in ordered.items()},
        labels,
        settings.data,
        folder,
    )
    side = settings.data.image_size // VAE_FACTOR
    source = MindOneSource(index, ordered, (LATENT_CHANNELS, side, side))
    try:
        source.read(0, [0], mirror=False)
    except VideoError as error:
        raise LatteError(
            f"cache.dir: {error}, as required by data.image_size {settings.data.image_size}"
        ) from error
    return index, source


def _frame_number(path: Path) -> tuple[int, str]:
    numbers = re.findall(r"\d+", path.stem)
    return (int(numbers[-1]) if numbers else -1, path.name)


def _index(
    videos: Mapping[str, tuple[Path, int]],
    labels: Mapping[str, int | None],
    data: DataSettings,
    folder: Path,
) -> ClipIndex:
    """The cached videos that are long enough for clips: sources, frames and classes."""
    kept: list[tuple[VideoFile, int]] = []
    left_out: list[LeftOut] = []
    for name, (path, frames) in videos.items():
        unlisted = data.labels is not None and name not in labels
        fault = LeftOut(name, f"not listed in {data.labels}") if unlisted else too_short(name, frames, data)
        if fault is None:
            kept.append((VideoFile(path, name, labels.get(name)), frames))
        else:
            left_out.append(fault)
    if not videos:
        raise LatteError(f"cache.dir: {folder}: contains no videos yet: run latte cache first")
    if not kept:
        raise nothing_left(str(folder), data, left_out)
    return ClipIndex(tuple(video for video, _ in kept), tuple(frames for _, frames in kept), tuple(left_out))
