"""The state of a video file, to detect changes: size, modification time and content."""

import os
from hashlib import sha256
from pathlib import Path

from latte_cli.core.data.videos.folders import list_images
from latte_cli.core.data.videos.video import check_regular


def source_state(path: Path) -> tuple[int, int]:
    """Size in bytes and modification time in ns of a video; for a folder, the sum and maximum over its
    images."""
    if not path.is_dir():
        return path.stat().st_size, path.stat().st_mtime_ns
    size = newest = 0
    for image in list_images(path):
        state = image.stat()
        size, newest = size + state.st_size, max(newest, state.st_mtime_ns)
    return size, newest


def source_hash(path: Path) -> str:
    """SHA-256 of a video's content; for a folder, of its images' names and contents. Raises VideoError."""
    digest = sha256()
    for file in sorted(map(Path, list_images(path))) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(os.fsencode(file.name) + b"\0")
        check_regular(file)
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
