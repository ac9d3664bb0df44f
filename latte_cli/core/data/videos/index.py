"""An index on disk of the videos under a root and their lengths, so that only changes are scanned again.

A folder is listed again if its modification time changed; a video is opened again if the size or modification
time of its file, or of its first frame, changed. The index is in the user's cache folder and is rebuilt if it
is damaged or missing.
"""

import logging
import os
import stat
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter

from latte_cli.core.data.videos.folders import Folder, list_folder
from latte_cli.core.data.videos.images import FrameFolder
from latte_cli.core.data.videos.open import open_video
from latte_cli.core.data.videos.video import VideoError
from latte_cli.core.errors import LatteError
from latte_cli.core.storage.files import cache_folder, write_file
from latte_cli.core.storage.json_files import read_json

log = logging.getLogger(__name__)

FORMAT: Final = 1
MAX_BYTES = 1 << 30  # of an index: some million videos
# A folder modified less than this before listing may change again without changing its timestamp.
SETTLED_NS = 2 * 10**9

State = tuple[int, int]  # size in bytes and modification time in ns of a file


@dataclass
class _Listed:
    mtime_ns: int
    content: Folder


@dataclass
class _Opened:
    state: State
    """State of the movie file, or of a folder's first frame."""
    frames: int


@dataclass
class _Record:
    format: Literal[1]
    root: str
    folders: dict[str, _Listed] = field(default_factory=dict)
    """By path under the root, ending with / (empty for the root)."""
    videos: dict[str, _Opened] = field(default_factory=dict)
    """By name."""


_RECORD = TypeAdapter(_Record)


class VideoIndex:
    """The videos under a folder and their lengths."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.record = _Record(FORMAT, os.path.realpath(root))
        try:
            kept = read_json(record_path(root), _Record, most=MAX_BYTES)
        except (LatteError, RuntimeError) as error:
            log.debug("%s: the video index is rebuilt: %s", root, error)
        else:
            if kept.root == self.record.root:
                self.record = kept
        self.changed = False

    def names(self) -> list[str]:
        """The names of the videos, unordered; a link to a folder above it is not followed.

        Raises LatteError if a folder cannot be listed.
        """
        names: list[str] = []
        seen: dict[str, _Listed] = {}
        waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
        while waiting:
            prefix, above = waiting.pop()
            try:
                state = os.stat(self.root / prefix)
                if (state.st_dev, state.st_ino) in above:
                    continue
                content = self._content(prefix, state.st_mtime_ns)
            except OSError as error:
                raise LatteError(f"{self.root / prefix}: cannot be listed: {error.strerror}") from error
            if prefix in self.record.folders:
                seen[prefix] = self.record.folders[prefix]
            names += [prefix.rstrip("/") or "."] if content.images else []
            names += [prefix + movie for movie in content.movies]
            here = above | {(state.st_dev, state.st_ino)}
            waiting += [(f"{prefix}{folder}/", here) for folder in content.folders]
        known = set(names)
        videos = {name: opened for name, opened in self.record.videos.items() if name in known}
        if len(seen) < len(self.record.folders) or len(videos) < len(self.record.videos):
            self.record.folders, self.record.videos, self.changed = seen, videos, True
        self._save()
        return names

    def lengths(
        self, videos: Sequence[tuple[str, Path]], *, workers: int, until: float | None
    ) -> Iterator[int | str | None]:
        """For each video (name, path) its number of frames, an error message, or None after the time limit.
        Unknown videos are opened in several threads; the results are stored."""
        known = [self._known(name, path) for name, path in videos]
        unknown = [video for video, length in zip(videos, known, strict=True) if length is None]
        pool = ThreadPoolExecutor(workers, "count")
        try:
            opened = pool.map(partial(self._open, until=until), unknown)
            for length in known:
                yield next(opened) if length is None else length
        finally:
            pool.shutdown(cancel_futures=True)
            self._save()

    def _content(self, prefix: str, mtime_ns: int) -> Folder:
        """The contents of a folder, listed again if it changed. Raises OSError."""
        listed = self.record.folders.get(prefix)
        if listed is not None and listed.mtime_ns == mtime_ns:
            return listed.content
        settled = time.time_ns() - mtime_ns > SETTLED_NS
        content = list_folder(self.root / prefix)
        if settled and _storable(prefix, *content.movies, *content.folders, content.first_image):
            self.record.folders[prefix] = _Listed(mtime_ns, content)
            self.changed = True
        elif self.record.folders.pop(prefix, None) is not None:
            self.changed = True
        return content

    def _state(self, name: str, path: Path) -> tuple[State, Folder | None]:
        """The state of a video, and its contents if it is a folder. Raises OSError."""
        state = os.stat(path)
        content = None
        if stat.S_ISDIR(state.st_mode):
            content = self._content("" if name == "." else f"{name}/", state.st_mtime_ns)
            state = (path / content.first_image).stat()
        return (state.st_size, state.st_mtime_ns), content

    def _known(self, name: str, path: Path) -> int | None:
        """The stored length of a video that has not changed, else None."""
        opened = self.record.videos.get(name)
        if opened is None:
            return None
        try:
            state, content = self._state(name, path)
        except OSError:
            return None
        unchanged = state == opened.state and (content is None or content.images == opened.frames)
        return opened.frames if unchanged else None

    def _open(self, video: tuple[str, Path], *, until: float | None) -> int | str | None:
        """The length of a video, an error message, or None after the time limit."""
        name, path = video
        if until is not None and time.monotonic() > until:
            return None
        if not _storable(name):  # names are written into caches and runs
            return "its name is not UTF-8: rename it"
        try:
            state, content = self._state(name, path)
            reader = open_video(path) if content is None else FrameFolder(path, content)
        except FileNotFoundError:
            return "no such file or folder"
        except OSError as error:
            return error.strerror or str(error)
        except VideoError as error:
            return error.reason
        self.record.videos[name] = _Opened(state, len(reader))
        self.changed = True
        return len(reader)

    def _save(self) -> None:
        """Write the index; if that fails, the videos are scanned again next time."""
        if not self.changed:
            return
        try:
            write_file(record_path(self.root), _RECORD.dump_json(self.record))
            self.changed = False
        except (LatteError, RuntimeError, ValueError) as error:
            log.debug("%s: the video index cannot be written: %s", self.root, error)


def record_path(root: Path) -> Path:
    """The index file of a folder. Raises RuntimeError if there is no home directory."""
    name = sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:24]
    return cache_folder("videos") / f"{name}.json"


def _storable(*names: str) -> bool:
    """Whether names are valid Unicode, as JSON requires."""
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        return False
    return True
