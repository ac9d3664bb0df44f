"""The files that describe a cache: cache.json with the settings, manifest.jsonl with one line per entry.

A line is appended when an entry is complete (see `Journal`); the last line of a video counts. Each worker of
a run appends to a separate file; these are merged at the end of the run.
"""

import json
import math
import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from latte_cli.core.data.videos.find import VideoFile, natural_order
from latte_cli.core.data.videos.source import source_hash, source_state
from latte_cli.core.data.videos.video import VideoError
from latte_cli.core.errors import LatteError, found
from latte_cli.core.latents import LATENT_CHANNELS, VAE_FACTOR
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.files import sync, write_file
from latte_cli.core.storage.journal import Journal
from latte_cli.core.storage.json_files import Count, Digest, Model, read_json
from latte_cli.core.storage.names import InsidePath, RelativeName

HEADER, MANIFEST = "cache.json", "manifest.jsonl"
WORKERS_MANIFESTS = "manifest.*.jsonl"
EXPECTED_HEADER = "a cache header; latte cache --overwrite creates the cache again"
AGAIN = "run latte cache to encode damaged entries again"
SHARD = re.compile(r"shard-\d+\.mindrecord")


class Header(Model):
    """The settings that all entries of a cache share."""

    model_config = ConfigDict(extra="forbid")

    vae: str
    """SHA-256 of the autoencoder's weights file."""
    image_size: int = Field(ge=VAE_FACTOR)
    transform: str
    type: Literal["numpy", "mindrecord"]
    store: Literal["moments", "sample"]
    dtype: Literal["float16", "float32"]
    mirror: bool
    scaling_factor: float | None
    """Already applied to stored samples; None for moments."""
    seed: int | None
    """Seed of the stored samples."""
    rows: tuple[Count, Count] | None = None
    """MindRecord: frames per row, and frames repeated in the next row; None until there is a cache."""
    format: Literal[1] = 1

    @field_validator("rows")
    @classmethod
    def _rows_go_on(cls, rows: tuple[int, int] | None) -> tuple[int, int] | None:
        """Raise ValueError if a row adds no frames to the one before."""
        if rows is not None and rows[1] >= rows[0]:
            raise ValueError("expected more frames than are repeated")
        return rows

    @staticmethod
    def of(settings: Settings, vae: str) -> "Header":
        """The header of a cache made with these settings."""
        sampled = settings.cache.store == "sample"
        return Header(
            vae=vae,
            image_size=settings.data.image_size,
            transform=settings.data.transform,
            type=settings.cache.type,
            store=settings.cache.store,
            dtype=settings.cache.dtype,
            mirror=settings.cache.mirror,
            scaling_factor=settings.vae.scaling_factor if sampled else None,
            seed=settings.seed if sampled else None,
        )

    def differences(self, expected: "Header", *, reading: bool) -> list[str]:
        """Descriptions of the differences to another header; if `reading`, only those that matter for
        reading."""
        names = {
            "vae": "vae.weights",
            "image_size": "data.image_size",
            "transform": "data.transform",
            "scaling_factor": "vae.scaling_factor",
        }
        if not reading:
            names |= {name: f"cache.{name}" for name in ("type", "store", "dtype", "mirror")} | {
                "seed": "seed"
            }
        found = []
        for name, setting in names.items():
            mine, theirs = getattr(self, name), getattr(expected, name)
            if name == "scaling_factor" and (mine is None or (reading and theirs is None)):
                continue
            if name == "seed" and None in (mine, theirs):
                continue
            if mine != theirs:
                short = [str(value)[:12] if name == "vae" else str(value) for value in (mine, theirs)]
                found.append(f"{setting}: the cache was made with {short[0]}, this run has {short[1]}")
        return found

    def frame_shape(self) -> tuple[int, ...]:
        """(channels, h, w) of one frame's latents, or (2, channels, h, w) with mirrored copies."""
        channels = LATENT_CHANNELS * (2 if self.store == "moments" else 1)
        side = self.image_size // VAE_FACTOR
        return (2, channels, side, side) if self.mirror else (channels, side, side)

    def frame_bytes(self) -> int:
        """Bytes of one frame's latents, including the mirrored copy."""
        return math.prod(self.frame_shape()) * (2 if self.dtype == "float16" else 4)

    def digest(self) -> str:
        """A short hash of everything in the header."""
        return sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()[:16]


class Entry(Model):
    """One video's latents."""

    name: RelativeName
    source: str
    size: Count
    """Bytes of the source; for a folder, the sum over its images."""
    mtime_ns: int
    sha256: Digest
    """SHA-256 of the source's content."""
    frames: Count
    shape: tuple[Count, ...] = Field(min_length=4, max_length=5)
    """(frames, channels, height, width), or (frames, 2, channels, height, width) with mirrored copies."""
    dtype: Literal["float16", "float32"]
    checksum: Digest
    """SHA-256 of the values in order."""
    vae: str
    settings: str
    """Header.digest."""
    file: InsidePath
    """Path in the cache's folder: an .npy, or the shard with the rows."""
    row: Count | None = None
    """The first row in the shard."""
    class_name: str | None = None
    label: Count | None = None
    """The number of its class; also None in caches of older versions."""

    @model_validator(mode="after")
    def _rows_are_in_shards(self) -> "Entry":
        """Raise ValueError for a row without a shard or a shard without a row."""
        if (self.row is not None) != bool(SHARD.fullmatch(self.file)):
            raise ValueError("expected a row in a shard, or a file of its own")
        return self

    def fault(self, header: Header) -> str | None:
        """Describe why an entry cannot belong to a cache with this header, or return None."""
        expected = (self.frames, *header.frame_shape())
        if self.shape != expected:
            return f"shape: found {self.shape}, expected {expected}"
        if self.dtype != header.dtype:
            return f"dtype: found {self.dtype}, expected {header.dtype}"
        if (self.row is not None) != (header.type == "mindrecord"):
            return f"file: found {self.file}, expected a file of cache type {header.type}"
        return None


def read_header(folder: Path) -> Header | None:
    """The header of a cache, or None if there is no cache. Raises LatteError if it is invalid."""
    path = folder / HEADER
    if not path.exists():
        return None
    header = read_json(path, Header, expected=EXPECTED_HEADER)
    if (header.rows is None) == (header.type == "mindrecord"):
        raise LatteError(f"{path}: rows: {found(header.rows, f'those of type {header.type}')}")
    return header


def write_header(folder: Path, header: Header) -> None:
    """Write a cache's header."""
    write_file(folder / HEADER, json.dumps(header.model_dump(), indent=1) + "\n")


def read_manifest(folder: Path, *, skip_damaged: bool = False) -> dict[str, Entry]:
    """The entries of a cache by name, in natural order; for damaged lines see `Journal.read`."""
    entries = {
        entry.name: entry
        for journal in _journals(folder)
        for entry in journal.read(skip_damaged=skip_damaged)
    }
    return {name: entries[name] for name in sorted(entries, key=natural_order)}


def append_entries(folder: Path, entries: Iterable[Entry], *, rank: int, world: int) -> None:
    """Append entries and flush to disk. On failure raises LatteError and leaves the manifest unchanged."""
    _journal(folder / (MANIFEST if world == 1 else f"manifest.{rank}.jsonl")).append(entries)


def write_manifest(folder: Path, entries: Iterable[Entry]) -> None:
    """Replace the manifest and the workers' parts with one file, in natural order."""
    ordered = sorted(entries, key=lambda entry: natural_order(entry.name))
    _journal(folder / MANIFEST).replace(ordered)
    for part in folder.glob(WORKERS_MANIFESTS):
        part.unlink()
    sync(folder)


def repair_manifest(folder: Path) -> None:
    """Remove damaged lines from the manifest, with a warning, and a line truncated by a crash.

    Parts left behind by workers are merged.
    """
    for journal in _journals(folder):
        journal.repair()
    if any(folder.glob(WORKERS_MANIFESTS)):
        write_manifest(folder, read_manifest(folder).values())


def unchanged(entry: Entry, video: VideoFile) -> bool:
    """Whether a video is unchanged since it was encoded: by size and time, or else by content."""
    try:
        if source_state(video.path) == (entry.size, entry.mtime_ns):
            return True
        return source_state(video.path)[0] == entry.size and source_hash(video.path) == entry.sha256
    except (OSError, VideoError):
        return False


def _journal(path: Path) -> Journal[Entry]:
    return Journal(path, Entry, advice=AGAIN)


def _journals(folder: Path) -> list[Journal[Entry]]:
    """The manifest and the parts of workers."""
    return [_journal(path) for path in [folder / MANIFEST, *sorted(folder.glob(WORKERS_MANIFESTS))]]
