"""Digests of files, kept in the user's cache folder: gigabytes of weights are not read twice for theirs.

A digest is taken for that of a file as long as the file's size, modification time and inode stay. Each is a
small file of its own, written whole; one that cannot be read or written costs no more than reading the files.
"""

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from latte_cli.core.errors import LatteError
from latte_cli.core.storage.files import BLOCK, cache_folder, write_whole
from latte_cli.core.storage.json_files import Digest, Model, read_json

KEPT_BYTES = 1 << 24  # of all the files together; fewer are read in no time
SETTLED_NS = 2_000_000_000  # since the last change: a second one within a clock's tick would not show

State = list[tuple[str, int, int, int]]
"""Path, size, modification time in ns and inode of each file."""


class _Kept(Model):
    """The digest that files in a state have."""

    files: tuple[tuple[str, int, int, int], ...]
    sha256: Digest


def digest_of_files(paths: Iterable[Path], *, named: bool = False) -> str:
    """SHA-256 of what files hold, one after the other, in hexadecimal; `named`: each after its name and a 0.

    Raises OSError for a file that cannot be read.
    """
    paths = list(paths)
    state = _state(paths)
    if sum(size for _, size, _, _ in state) < KEPT_BYTES:
        return _digest(paths, named)
    key = sha256(json.dumps([named, *(path for path, *_ in state)]).encode()).hexdigest()
    kept = cache_folder("digests") / f"{key[:32]}.json"
    found = _read(kept, state)
    if found is not None:
        return found
    settled = time.time_ns() - SETTLED_NS
    digest = _digest(paths, named)
    if _state(paths) == state and max(changed for _, _, changed, _ in state) < settled:
        with suppress(LatteError):
            write_whole(kept, json.dumps({"files": state, "sha256": digest}) + "\n")
    return digest


def _state(paths: Sequence[Path]) -> State:
    stats = [(str(path.absolute()), path.stat()) for path in paths]
    return [(path, stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in stats]


def _read(kept: Path, state: State) -> str | None:
    """The digest that is kept of files in this state, or None."""
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
