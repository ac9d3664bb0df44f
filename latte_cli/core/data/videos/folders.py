"""What folders hold: movie files, the frames of a video, further folders. Hidden names are passed over."""

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
    """What lies directly in a folder. Its images, the frames of a video, are only counted: there may be
    millions."""

    images: int
    first_image: str
    """The name of the first frame; empty without images."""
    movies: tuple[str, ...]
    """Names of movie files and GIFs."""
    folders: tuple[str, ...]


def list_folder(path: Path) -> Folder:
    """Look through a folder once. Raises OSError."""
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
    """The images directly in a folder, in no order. Raises OSError."""
    with os.scandir(path) as entries:
        for entry in entries:
            image = _suffix(entry.name) in IMAGE_SUFFIXES and not entry.name.startswith(".")
            if image and not _is_folder(entry):
                yield entry


def frame_order(name: str) -> tuple[bool, int, str]:
    """Where an image comes in its folder: by the last number of its name, as a number ("frame_9" before
    "frame_10"); names without one come last."""
    number = _LAST_NUMBER.search(name.rpartition(".")[0] or name)
    return (number is None, int(number[1]) if number else 0, name)


def _suffix(name: str) -> str:
    """The suffix of a name that does not begin with a dot, in lower case."""
    _, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot else ""


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder or leads to one; a link that leads nowhere, or to itself, is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False
