"""SHA-256 digests of files, cached in the user's cache folder so that gigabytes of weights are hashed once.

A cached digest is valid while the file's size, modification time and inode are unchanged. Each is stored in a
separate small file; if it cannot be read or written, the digest is simply computed again.
"""

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from latte_cli.core.errors import LatteError
from latte_cli.core.storage.files import BLOCK, cache_folder, write_file
from latte_cli.core.storage.json_files import Digest, Model, read_json

KEPT_BYTES = 1 << 24  # total size from which digests are cached; smaller files are hashed quickly enough
SETTLED_NS = 2_000_000_000  # minimum age of the last change: two quick ones may share a timestamp

State = list[tuple[str, int, int, int]]
"""Path, size, modification time (ns) and inode of each file."""


class _Kept(Model):
    """A cached digest and the state of the files it was computed from."""

    files: tuple[tuple[str, int, int, int], ...]
    sha256: Digest


def digest_of_files(paths: Iterable[Path], *, named: bool = False) -> str:
    """SHA-256 of the concatenated contents of files, in hexadecimal.

    named: also hash each file's name and a zero byte before its contents.
    Raises OSError if a file cannot be read.
    """
    paths = list(paths)
    state = _state(paths)
    if sum(size for _, size, _, _ in state) < KEPT_BYTES:
        return _digest(paths, named)
    kept = _kept(state, named=named)
    found = _read(kept, state)
    if found is not None:
        return found
    settled = time.time_ns() - SETTLED_NS
    digest = _digest(paths, named)
    if _state(paths) == state and max(changed for _, _, changed, _ in state) < settled:
        with suppress(LatteError):
            write_file(kept, json.dumps({"files": state, "sha256": digest}) + "\n")
    return digest


def unread_bytes(paths: Iterable[Path]) -> int:
    """Bytes of the files that `digest_of_files` of each would read, since no digest is cached.

    Raises OSError if a file does not exist.
    """
    sizes = 0
    for path in paths:
        state = _state([path])
        if state[0][1] < KEPT_BYTES or _read(_kept(state, named=False), state) is None:
            sizes += state[0][1]
    return sizes


def _kept(state: State, *, named: bool) -> Path:
    """The file of the cached digest."""
    key = sha256(json.dumps([named, *(path for path, *_ in state)]).encode()).hexdigest()
    return cache_folder("digests") / f"{key[:32]}.json"


def _state(paths: Sequence[Path]) -> State:
    stats = [(str(path.absolute()), path.stat()) for path in paths]
    return [(path, stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in stats]


def _read(kept: Path, state: State) -> str | None:
    """The cached digest for this state, or None."""
    try:
        found = read_json(kept, _Kept)
    except LatteError:
        return None
    return found.sha256 if list(found.files) == state else None


def _digest(paths: Sequence[Path], named: bool) -> str:
    digest = sha256()
    for path in paths:
        if named:
            digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()
