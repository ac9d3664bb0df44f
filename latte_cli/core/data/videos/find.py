"""Find the videos of a folder, name and label them, and select those long enough for clips."""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from latte_cli.core.data.videos.demo import clips_root
from latte_cli.core.data.videos.folders import VIDEO_SUFFIXES
from latte_cli.core.data.videos.index import VideoIndex
from latte_cli.core.data.videos.labels import read_labels
from latte_cli.core.data.videos.left_out import LeftOut, nothing_left, too_short, warn_of
from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import DataSettings


@dataclass(frozen=True)
class VideoFile:
    """A video: its location, its name (the path under the root, with /), and the number and name of its
    class, if any."""

    path: Path
    name: str
    label: int | None = None
    class_name: str | None = None


@dataclass(frozen=True)
class ClipIndex:
    """The videos that are long enough for clips, in order, with their numbers of frames."""

    videos: tuple[VideoFile, ...]
    frames: tuple[int, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Scan:
    """Result of a quick scan: all videos, and the frame counts of those opened within the time limit."""

    videos: tuple[VideoFile, ...]
    opened: ClipIndex
    complete: bool


def find_videos(root: Path) -> list[VideoFile]:
    """The videos under a folder (or the one video that `root` is), in natural order of their names.

    A folder with images is one video, and so is every movie file and GIF. Hidden names are ignored, links are
    followed. "v2" comes before "v10". A video's class is the index of its top-level folder in sorted order;
    videos directly under the root have none. Raises LatteError if the folder does not exist or contains no
    videos.
    """
    try:
        root.stat()
    except FileNotFoundError as error:
        raise LatteError(f"data.root: {root}: no such folder") from error
    except OSError as error:
        raise LatteError(f"data.root: {root}: {error.strerror}") from error
    names = video_names(root)
    if not names:
        kinds = ", ".join(sorted(VIDEO_SUFFIXES))
        raise LatteError(
            f"data.root: {root}: contains no videos; expected folders of images or files of type {kinds}"
        )
    numbers = class_numbers(class_folders(names))
    parent = root if root.is_dir() else root.parent
    return [
        VideoFile(parent / name, name, None if top is None else numbers[top], top)
        for name in sorted(names, key=natural_order)
        for top in [class_folder(name)]
    ]


def video_names(root: Path) -> list[str]:
    """The names of the videos under a folder, unordered; empty if there is no such folder."""
    if root.is_dir():
        return VideoIndex(root).names()
    return [root.name] if root.exists() else []


def class_folder(name: str) -> str | None:
    """The top-level folder of a video, which names its class; None directly under the root."""
    return name.split("/", maxsplit=1)[0] if "/" in name else None


def class_folders(names: Iterable[str]) -> set[str]:
    """The top-level folders of videos."""
    return {top for name in names if (top := class_folder(name)) is not None}


def class_numbers(classes: Iterable[str]) -> dict[str, int]:
    """Number classes by their position in sorted order."""
    return {name: number for number, name in enumerate(sorted(classes))}


def natural_order(name: str) -> list[tuple[list[tuple[int, str]], str]]:
    """Sorting key for paths: by part, with runs of digits as numbers; ties by the text itself."""
    return [
        (
            [
                (int(piece), "") if piece[0] in "0123456789" else (-1, piece)
                for piece in re.findall(r"[0-9]+|[^0-9]+", part)
            ],
            part,
        )
        for part in name.split("/")
    ]


def labelled_videos(data: DataSettings) -> tuple[list[VideoFile], list[LeftOut]]:
    """The videos with their classes, and those not listed in data.labels."""
    if data.root is None:
        raise LatteError("data.root: not set, expected a folder of videos")
    videos = find_videos(clips_root(data.root))
    if data.labels is None:
        return videos, []
    labels = read_labels(data.labels, [video.name for video in videos])
    kept = [
        replace(video, label=found.number, class_name=found.name)
        for video in videos
        if (found := labels.get(video.name)) is not None
    ]
    unlisted = [
        LeftOut(video.name, f"not listed in {data.labels}") for video in videos if video.name not in labels
    ]
    if not kept:
        raise LatteError(f"data.labels: {data.labels}: lists none of the {len(videos)} videos of {data.root}")
    return kept, unlisted


def index_clips(data: DataSettings) -> ClipIndex:
    """Count every video's frames and keep those long enough for a clip, with a warning about the others.

    Raises LatteError with the reason if none is left.
    """
    videos, unlisted = labelled_videos(data)
    index = _count(videos, data)
    left_out = (*unlisted, *index.left_out)
    if not index.videos:
        raise nothing_left(str(data.root), data, index.left_out)
    warn_of(left_out, data)
    return replace(index, left_out=left_out)


def scan(data: DataSettings, *, seconds: float = 1.0) -> Scan:
    """Scan the data for a plan: lists all videos and opens as many as possible within `seconds`.

    Raises LatteError if there are none, or if all were opened and none is long enough for a clip.
    """
    videos, unlisted = labelled_videos(data)
    end = time.monotonic() + seconds
    opened = _count(videos, data, until=end)
    complete = len(opened.videos) + len(opened.left_out) == len(videos)
    if complete and not opened.videos:
        raise nothing_left(str(data.root), data, opened.left_out)
    return Scan(tuple(videos), replace(opened, left_out=(*unlisted, *opened.left_out)), complete)


def check_labels(videos: Sequence[VideoFile], num_classes: int) -> None:
    """Raise LatteError unless every video has a class in [0, num_classes)."""
    for video in videos:
        if video.label is None:
            raise LatteError(
                f"{video.name}: has no class: set data.labels,"
                " or put the videos into folders named after their class"
            )
        if not 0 <= video.label < num_classes:
            expected = f"model.num_classes {num_classes} allows 0 to {num_classes - 1}"
            raise LatteError(f"{video.name}: has class {video.label}: {expected}")


def count_frames(
    videos: Sequence[VideoFile], root: Path | None, *, workers: int, until: float | None = None
) -> Iterator[int | str | None]:
    """For each video under `root` its number of frames, an error message, or None after the time limit.

    Only new or changed videos are opened, in several threads.
    """
    index = VideoIndex(clips_root(root or Path()))
    return index.lengths([(video.name, video.path) for video in videos], workers=workers, until=until)


def _count(videos: Sequence[VideoFile], data: DataSettings, *, until: float | None = None) -> ClipIndex:
    """Separate the videos that are long enough for clips from the others."""
    kept: list[tuple[VideoFile, int]] = []
    left_out: list[LeftOut] = []
    lengths = count_frames(videos, data.root, workers=data.workers, until=until)
    for video, found in zip(videos, lengths, strict=True):
        if isinstance(found, int):
            short = too_short(video.name, found, data)
            if short is None:
                kept.append((video, found))
            else:
                left_out.append(short)
        elif found is not None:
            left_out.append(LeftOut(video.name, found))
    return ClipIndex(tuple(video for video, _ in kept), tuple(frames for _, frames in kept), tuple(left_out))
