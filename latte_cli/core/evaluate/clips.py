"""Sets of clips to compare: folders of videos or frames, or .npy files, read on demand."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.data.videos.demo import clips_root
from latte_cli.core.data.videos.find import VideoFile, count_frames, natural_order, video_names
from latte_cli.core.data.videos.folders import VIDEO_SUFFIXES, list_images
from latte_cli.core.data.videos.open import open_video
from latte_cli.core.errors import LatteError, printable
from latte_cli.core.rng import Stream, draw
from latte_cli.core.sampling.spec import read_specs
from latte_cli.core.sampling.write import clip_file, holds_previews
from latte_cli.core.storage.digests import digest_of_files

log = logging.getLogger(__name__)

Frames = NDArray[np.uint8]
ARRAYS = ".npy"
COUNTERS = 2  # threads that count frames
DIGESTS_KEPT = 100_000


@dataclass(frozen=True)
class Item:
    """A video, or a row of a .npy file, with its number of frames."""

    path: Path
    frames: int
    row: int | None = None

    @property
    def name(self) -> str:
        """Name for messages."""
        return str(self.path) if self.row is None else f"{self.path}[{self.row}]"


@dataclass(frozen=True)
class Place:
    """A clip: some frames of an item."""

    item: Item
    indices: tuple[int, ...]


@dataclass(frozen=True)
class ClipSet:
    """The items from which clips can be taken, and the number of unreadable or too short ones."""

    flag: str
    path: Path
    items: tuple[Item, ...]
    left_out: int = 0


def open_clips(flag: str, path: Path, *, needed: int) -> ClipSet:
    """The videos, or clips in .npy files, with at least `needed` frames; others are logged.

    In a folder that `latte sample` wrote, only the clips that its sidecars name: no contact sheets, grids or
    previews of training.

    flag: the command-line option of the path, for messages. Raises LatteError if there are no usable clips.
    """
    path = clips_root(path)
    if not path.exists():
        raise LatteError(f"{flag}: {path}: no such file or folder")
    arrays = _array_files(path)
    try:
        found = [item for file in arrays for item in _rows(file)] if arrays else _videos(flag, path)
    except OSError as error:
        raise LatteError(f"{flag}: {path}: {error.strerror or error}") from error
    kept = []
    for item, problem in found:
        short = f"too short: {item.frames} frames, expected {needed}" if item.frames < needed else None
        fault = problem or short
        if fault is None:
            kept.append(item)
        else:
            log.warning("left out: %s: %s", printable(item.name), fault)
            first = f"{item.name}: {fault}"
    if not kept:
        raise LatteError(f"{flag}: {path}: no clip can be taken from it; the last of {len(found)}, {first}")
    return ClipSet(flag, path, tuple(kept), len(found) - len(kept))


def draw_clips(
    clips: ClipSet, number: int, *, num_frames: int, stride: int, random: bool, seed: Sequence[int]
) -> list[Place]:
    """Choose the clips of a draw, in the order of their videos.

    random: clips begin at random frames; videos are used several times if there are fewer than clips.
    Otherwise one clip per video, from the first frame. seed: the seed, the number of the draw and that of the
    set. Raises LatteError if there are fewer videos than clips from the first frame.
    """
    total = len(clips.items)
    if number > total and not random:
        raise LatteError(f"{clips.flag}: {clips.path}: found {total} clips, expected {number} (--clips)")
    generator = draw(seed[0], Stream.EVALUATE, *seed[1:])
    rounds = [generator.permutation(total) for _ in range(-(-number // total))]
    chosen = sorted(int(place) for place in np.concatenate(rounds)[:number])
    places = []
    for place in chosen:
        item, span = clips.items[place], (num_frames - 1) * stride + 1
        begin = int(generator.integers(item.frames - span + 1)) if random else 0
        places.append(Place(item, tuple(range(begin, begin + span, stride))))
    return places


def read_frames(place: Place) -> Frames:
    """A clip's frames (F, H, W, 3). Raises LatteError if the video cannot be decoded."""
    item = place.item
    if item.row is None:
        return open_video(item.path).read(place.indices)
    array = _map(item.path)
    rows = array[None] if array.ndim == 4 else array
    try:
        return np.ascontiguousarray(rows[item.row][list(place.indices)])
    except IndexError as error:
        raise LatteError(f"{item.name}: no longer exists: the file contains fewer clips") from error


def digest(place: Place) -> str:
    """A hash of what a clip is made from: its file or images, and which frames of it.

    Raises LatteError for one that cannot be read any more.
    """
    item = place.item
    try:
        if item.row is not None:
            frames = read_frames(place)
            content = sha256(frames.tobytes()).hexdigest() + str(frames.shape)
        elif item.path.is_dir():
            images = sorted(map(Path, list_images(item.path)))
            content = "".join(_file_digest(image, *_state(image)) for image in images)
        else:
            content = _file_digest(item.path, *_state(item.path))
    except OSError as error:
        raise LatteError(f"{item.name}: cannot be read: {error.strerror or error}") from error
    return sha256(f"{content} {place.indices}".encode()).hexdigest()


@lru_cache(DIGESTS_KEPT)
def _file_digest(path: Path, size: int, mtime_ns: int) -> str:
    return digest_of_files([path])


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


Found = tuple[Item, str | None]


def _videos(flag: str, path: Path) -> list[Found]:
    parent = path if path.is_dir() else path.parent
    every = sorted(video_names(path), key=natural_order)
    names = _without_sheets(path, every) if path.is_dir() else every
    if every and not names:
        raise LatteError(
            f"{flag}: {path}: contains contact sheets, grids or previews of training, but no clip of"
            " `latte sample` as mp4 or gif"
        )
    if not names:
        kinds = ", ".join(sorted((*VIDEO_SUFFIXES, ARRAYS)))
        raise LatteError(f"{flag}: {path}: contains no clips; expected folders of images or files {kinds}")
    videos = [VideoFile(parent / name, name) for name in names]
    counts = count_frames(videos, path, workers=COUNTERS)
    return [
        (Item(video.path, found), None) if isinstance(found, int) else (Item(video.path, 0), found)
        for video, found in zip(videos, counts, strict=True)
    ]


def _without_sheets(root: Path, names: Sequence[str]) -> list[str]:
    """The videos without what `latte sample` wrote next to its clips: sheets, grids, other formats."""
    folders = {name: root / name for name in names}  # of a movie's file, or of the frames that are the video
    movies = {name: root / name for name in names if Path(name).suffix.lower() in VIDEO_SUFFIXES}
    folders |= {name: file.parent for name, file in movies.items()}
    clips = {folder: _sampled(folder) for folder in {root, *(folders[name] for name in movies)}}
    kept = {name: clips.get(folder) for name, folder in folders.items()}
    return [name for name, sampled in kept.items() if sampled is None or Path(name).name in sampled]


def _sampled(folder: Path) -> frozenset[str] | None:
    """The names of the files that are clips by a folder's sidecars, one for each; none if it contains only
    previews of training. None for a folder that this program did not write."""
    specs, _ = read_specs(folder)
    clips = frozenset(name for spec in specs if (name := clip_file(spec)) is not None)
    return clips if specs or holds_previews(folder) else None


def _array_files(path: Path) -> list[Path]:
    """The .npy file at a path, or those directly in a folder; not the latents of `latte sample`."""
    if path.is_dir():
        names = sorted((file.name for file in path.glob(f"*{ARRAYS}")), key=natural_order)
        sampled = _sampled(path) if names else None
        return [path / name for name in names if sampled is None or name in sampled]
    return [path] if path.suffix.lower() == ARRAYS else []


def _rows(path: Path) -> list[Found]:
    array = _map(path)
    if array.ndim == 4:
        return [(Item(path, len(array), 0), None)]
    return [(Item(path, array.shape[1], row), None) for row in range(len(array))]


def _map(path: Path) -> Frames:
    """Map clips (N, F, H, W, 3), or one (F, H, W, 3). Raises LatteError for anything else."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        reason = (str(error).splitlines() or ["damaged"])[0]
        raise LatteError(f"{path}: cannot be read as a .npy file: {printable(reason)}") from error
    expected = "expected clips (N, F, H, W, 3) or one clip (F, H, W, 3) of uint8"
    if not isinstance(array, np.ndarray):
        raise LatteError(f"{path}: found an archive of arrays, {expected}")
    if array.dtype != np.uint8 or array.ndim not in (4, 5) or array.shape[-1] != 3 or not array.size:
        raise LatteError(f"{path}: found {array.dtype} of shape {array.shape}, {expected}")
    return array
