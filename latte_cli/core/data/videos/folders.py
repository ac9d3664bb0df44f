"""Contents of folders: movie files, frames of a video, subfolders. Hidden names are ignored."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
MOVIE_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm"})
GIF_SUFFIX = ".gif"
VIDEO_SUFFIXES = MOVIE_SUFFIXES | {GIF_SUFFIX}
_LAST_NUMBER = re.compile(r"(\d+)\D*\Z")


@dataclass(frozen=True)
class Folder:
    """The direct contents of a folder. Images (frames of a video) are only counted: there may be millions."""

    images: int
    first_image: str
    """Name of the first frame; empty without images."""
    movies: tuple[str, ...]
    """Names of movie files and GIFs."""
    folders: tuple[str, ...]


def list_folder(path: Path) -> Folder:
    """List a folder in one pass. Raises OSError."""
    images, first, first_place = 0, "", None
    movies: list[str] = []
    folders: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                folders.append(entry.name)
            elif (suffix := _suffix(entry.name)) in IMAGE_SUFFIXES:
                images += 1
                place = frame_order(entry.name)
                if first_place is None or place < first_place:
                    first, first_place = entry.name, place
            elif suffix in VIDEO_SUFFIXES:
                movies.append(entry.name)
    return Folder(images, first, tuple(movies), tuple(folders))


def list_images(path: Path) -> "Iterator[os.DirEntry[str]]":
    """The images directly in a folder, unordered. Raises OSError."""
    with os.scandir(path) as entries:
        for entry in entries:
            image = _suffix(entry.name) in IMAGE_SUFFIXES and not entry.name.startswith(".")
            if image and not _is_folder(entry):
                yield entry


def frame_order(name: str) -> tuple[bool, int, str]:
    """Sorting key for frames: by the last number in the name ("frame_9" before "frame_10"); names without a
    number come last."""
    number = _LAST_NUMBER.search(name.rpartition(".")[0] or name)
    return (number is None, int(number[1]) if number else 0, name)


def _suffix(name: str) -> str:
    """The suffix of a name that is not hidden, in lower case."""
    _, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot else ""


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a folder or a link to one; False for broken and circular links."""
    try:
        return entry.is_dir()
    except OSError:
        return False
