"""A file next to each shard with its checksums and the cache it belongs to."""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from latte_cli.core.errors import LatteError
from latte_cli.core.storage.files import write_file
from latte_cli.core.storage.json_files import Digest, check_json, read_json

SUMS = ".sums"
SETTINGS = "settings"  # key of the digest of the cache's header; the other keys are the shard's files


def write_sums(shard: Path, sums: Mapping[str, tuple[int, str]], settings: str) -> None:
    """Write the size and SHA-256 of each of a shard's files, and the digest of its cache's header."""
    write_file(shard.with_suffix(SUMS), json.dumps({**sums, SETTINGS: settings}) + "\n")


def size_and_digest(path: Path) -> tuple[int, str]:
    """A file's size and SHA-256."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return path.stat().st_size, digest.hexdigest()


def shard_fault(shard: Path, *, content: bool = False) -> str | None:
    """The fault of a shard's files (presence and size and, if requested, content), or None.

    MindRecord crashes on some damaged files, so they are checked before opening.
    """
    sums_file = shard.with_suffix(SUMS)
    if not sums_file.exists():
        return "is missing"
    try:
        sums = _read_sums(sums_file)
        for part in (f"{shard.name}.db", shard.name):
            size, digest = sums[part]
            path = shard.with_name(part)
            if path.stat().st_size != size:
                return f"is torn: {part} has the wrong length"
            if content and size_and_digest(path)[1] != digest:
                return f"is torn: {part} does not match its checksum"
    except OSError:
        return "is missing"
    except (LatteError, KeyError):
        return f"is torn: {sums_file.name} cannot be read"
    return None


def check_shards(folder: Path, files: Iterable[str], settings: str) -> None:
    """Raise LatteError for a shard made for a cache with other settings (the digest of a header).

    Missing and damaged shards are found on reading; shards of older versions do not record the settings.
    """
    for name in files:
        if _settings_of(folder / name) not in ("", settings):
            raise LatteError(f"{folder / name}: belongs to another cache: it was made with other settings")


def _settings_of(shard: Path) -> str:
    """The digest of the header that a shard was made for; empty if not recorded."""
    try:
        return str(read_json(shard.with_suffix(SUMS), dict[str, Any]).get(SETTINGS, ""))
    except LatteError:
        return ""


def _read_sums(path: Path) -> dict[str, tuple[int, str]]:
    """The size and SHA-256 of each file of a shard."""
    sums = read_json(path, dict[str, Any])
    sums.pop(SETTINGS, None)
    return check_json(sums, dict[str, tuple[int, Digest]], source=str(path))
