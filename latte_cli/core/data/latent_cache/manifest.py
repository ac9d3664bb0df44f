"""What a cache of latents holds: cache.json says what made them, manifest.jsonl has a line an entry.

Lines are appended and flushed as entries become whole; of two lines for one video the later counts; a last
line torn by a crash is passed over. Workers of one run append to files of their own, which are merged when
the run ends.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from latte_cli.core.data.videos.find import VideoFile, natural_order
from latte_cli.core.data.videos.video import VideoError, check_regular, list_images
from latte_cli.core.errors import LatteError
from latte_cli.core.files import sync, write_whole
from latte_cli.core.latents import LATENT_CHANNELS, VAE_FACTOR
from latte_cli.core.settings.schema import Settings

FORMAT = 1
HEADER, MANIFEST, LOCK = "cache.json", "manifest.jsonl", "lock"
WORKERS_MANIFESTS = "manifest.*.jsonl"


@dataclass(frozen=True)
class Header:
    """What shapes every entry of a cache."""

    vae: str
    """SHA-256 of the autoencoder's weights file."""
    image_size: int
    transform: str
    type: Literal["numpy", "mindrecord"]
    store: Literal["moments", "sample"]
    dtype: Literal["float16", "float32"]
    mirror: bool
    scaling_factor: float | None
    """Already in the values of stored samples; None for moments."""
    seed: int | None
    """Of the stored samples."""
    rows: tuple[int, int] | None = None
    """MindRecord: frames of a row, and how many of them the next row repeats."""
    format: int = FORMAT

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

    def differences(self, wanted: "Header", *, reading: bool) -> list[str]:
        """How this cache differs from one made with other settings, in words; when `reading`, only what
        matters then."""
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
            mine, theirs = getattr(self, name), getattr(wanted, name)
            if name == "scaling_factor" and (mine is None or (reading and theirs is None)):
                continue
            if name == "seed" and None in (mine, theirs):
                continue
            if mine != theirs:
                short = [str(value)[:12] if name == "vae" else str(value) for value in (mine, theirs)]
                found.append(f"{setting}: the cache was made with {short[0]}, this run has {short[1]}")
        return found

    def frame_bytes(self) -> int:
        """Bytes of one frame's latents, mirrored copy included."""
        channels = LATENT_CHANNELS * (2 if self.store == "moments" else 1)
        values = channels * (self.image_size // VAE_FACTOR) ** 2 * (1 + self.mirror)
        return values * (2 if self.dtype == "float16" else 4)

    def digest(self) -> str:
        """A short hash of everything in the header."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Entry:
    """One video's latents."""

    name: str
    source: str
    size: int
    """Bytes of the source; of a folder, of its images together."""
    mtime_ns: int
    sha256: str
    """Of the source's content."""
    frames: int
    shape: tuple[int, ...]
    """(frames, channels, height, width), or (frames, 2, channels, height, width) with mirrored copies."""
    dtype: Literal["float16", "float32"]
    checksum: str
    """SHA-256 of the values in order."""
    vae: str
    settings: str
    """Header.digest."""
    file: str
    """Under the cache's folder: an .npy, or the shard that holds the rows."""
    row: int | None = None
    """The first row in the shard."""
    class_name: str | None = None
    label: int | None = None
    """The number of its class; None in a cache of an older version, too."""

    def line(self) -> str:
        """The manifest's line."""
        return json.dumps({key: value for key, value in asdict(self).items() if value is not None}) + "\n"


ENTRY = TypeAdapter(Entry)


def read_header(folder: Path) -> Header | None:
    """The header of a cache, or None where there is no cache. Raises LatteError for one that cannot be
    understood."""
    path = folder / HEADER
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LatteError(
            f"{path}: cannot be read: {error}; latte cache --overwrite makes the cache anew"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise LatteError(
            f"{path}: format {content.get('format') if isinstance(content, dict) else '?'}, wanted {FORMAT}"
        )
    rows = content.pop("rows", None)
    try:
        return Header(**content, rows=tuple(rows) if rows else None)
    except TypeError as error:
        raise LatteError(f"{path}: not the header of a cache: {error}") from error


def write_header(folder: Path, header: Header) -> None:
    """Write a cache's header."""
    write_whole(folder / HEADER, json.dumps(asdict(header), indent=1) + "\n")


def read_manifest(folder: Path) -> dict[str, Entry]:
    """The entries of a cache by name, in natural order."""
    entries: dict[str, Entry] = {}
    for path in [folder / MANIFEST, *sorted(folder.glob(WORKERS_MANIFESTS))]:
        for line in _content(path).splitlines(keepends=True):
            entry = _entry(line)
            if entry is not None:
                entries[entry.name] = entry
    return {name: entries[name] for name in sorted(entries, key=natural_order)}


def append_entries(folder: Path, entries: Iterable[Entry], *, rank: int, world: int) -> None:
    """Add entries, on disk when this returns. Raises LatteError, leaving the manifest as it was, when the
    disk is full."""
    path = folder / (MANIFEST if world == 1 else f"manifest.{rank}.jsonl")
    lines = "".join(entry.line() for entry in entries).encode()
    try:
        with path.open("ab") as file:
            before = file.tell()
            try:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    file.close()
                os.truncate(path, before)
                raise
    except OSError as error:
        raise LatteError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_manifest(folder: Path, entries: Iterable[Entry]) -> None:
    """Replace the manifest and the workers' parts by one file, in natural order."""
    ordered = sorted(entries, key=lambda entry: natural_order(entry.name))
    write_whole(folder / MANIFEST, "".join(entry.line() for entry in ordered))
    for part in folder.glob(WORKERS_MANIFESTS):
        part.unlink()
    sync(folder)


def mend_manifest(folder: Path) -> None:
    """Cut a line torn by a crash off the manifest, so that the next one starts on a line of its own.

    Parts left by workers are taken in.
    """
    for path in [folder / MANIFEST, *folder.glob(WORKERS_MANIFESTS)]:
        if (content := _content(path)) and not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)
    if any(folder.glob(WORKERS_MANIFESTS)):
        write_manifest(folder, read_manifest(folder).values())


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold a cache folder for one run. Raises LatteError when another has it; a run that died holds
    nothing."""
    import fcntl

    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise LatteError(f"{folder}: cannot be written: {error.strerror or error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = (
                os.fstat(file.fileno()).st_ino == path.stat().st_ino
            )  # not one that its holder just removed
        except (BlockingIOError, FileNotFoundError):
            held = False
        if not held:
            raise LatteError(f"{folder}: another latte cache is at work on this folder")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def source_state(path: Path) -> tuple[int, int]:
    """Size in bytes and modification time in ns of a video: of a folder, the sum and the newest of its
    images."""
    states = [image.stat() for image in list_images(path)] if path.is_dir() else [path.stat()]
    return sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)


def source_hash(path: Path) -> str:
    """SHA-256 of a video's content: of a folder, of its images' names and contents. Raises VideoError."""
    digest = sha256()
    for file in sorted(list_images(path)) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(file.name.encode() + b"\0")
        check_regular(file)
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def unchanged(entry: Entry, video: VideoFile) -> bool:
    """Whether a video is still what its entry was made of: by size and time, or else by content."""
    try:
        if source_state(video.path) == (entry.size, entry.mtime_ns):
            return True
        return source_state(video.path)[0] == entry.size and source_hash(video.path) == entry.sha256
    except (OSError, VideoError):
        return False


def _content(path: Path) -> bytes:
    """The bytes of a file; none where there is no file. Raises LatteError when it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise LatteError(f"{path}: cannot be read: {error.strerror or error}") from error


def _entry(line: bytes) -> Entry | None:
    """The entry of a line, or None for one that a crash tore or something else damaged."""
    try:
        return ENTRY.validate_json(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
