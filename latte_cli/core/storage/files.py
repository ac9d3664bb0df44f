"""Atomic writes: a file appears complete or not at all."""

import os
import platform
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from latte_cli.core.errors import LatteError

BLOCK = 1 << 22  # bytes read at a time
_LEFT = re.compile(r"\.(.+)\.(\d+)-(\w+)\.(partial(\..*)?|before)")  # by a killed process
_cleared: set[str] = set()  # folders


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """A temporary path next to `target` to write to: renamed to `target` on success, otherwise removed.

    The path keeps the suffix of `target`, from which writers infer the format. Missing parent folders are
    created, and removed again if the write fails. The first write into a folder removes partial files that
    killed processes of this machine left there. Raises LatteError if the file cannot be written.
    """
    made = [place for place in target.parents if not os.path.lexists(place)]
    partial = target.with_name(f".{target.stem}.{_writer()}.partial{target.suffix}")
    _clear_abandoned(target.parent)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        sync(partial)
        os.replace(partial, target)
        sync(target.parent)
    except OSError as error:
        raise LatteError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()
        remove_empty(made)


@contextmanager
def atomic_folder(target: Path, *, force: bool) -> Iterator[Path]:
    """A temporary folder next to `target` to fill: renamed to `target` on success, otherwise removed.

    Raises LatteError if it cannot be written, or `target` exists and is not to be replaced (`force`).
    """
    _clear_abandoned(target.parent)
    if target.exists() and not force:
        raise LatteError(f"{target}: already exists; use --force to replace it")
    partial, before = (
        target.with_name(f".{target.name}.{_writer()}.{word}") for word in ("partial", "before")
    )
    try:
        partial.mkdir(parents=True)
        yield partial
        sync(partial)
        with suppress(FileNotFoundError):
            target.rename(before)
        partial.rename(target)
        sync(target.parent)
    except OSError as error:
        raise LatteError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        if before.exists() and not target.exists():
            before.rename(target)
        for folder in (partial, before):
            shutil.rmtree(folder, ignore_errors=True)
            if folder.is_file():
                folder.unlink()


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Create a folder if it is missing; remove it, and the parents created for it, if it stays empty.

    Raises LatteError if the folder cannot be created or written to.
    """
    made = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LatteError(f"{folder}: cannot be created: {error.strerror or error}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise LatteError(f"{folder}: cannot be written to: no permission")
        yield
    finally:
        remove_empty(made)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove the folders that are empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def write_file(target: Path, content: bytes | str) -> None:
    """Write a small file atomically; text as UTF-8."""
    with atomic_file(target) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def clear_partials(folder: Path, names: str = "*") -> None:
    """Remove partial files in `folder` left behind by killed writers; `names` is a glob pattern."""
    for partial in folder.glob(f".{names}.partial*"):
        with suppress(OSError):
            partial.unlink()


def _writer() -> str:
    """The part of a partial file's name that identifies this process."""
    return f"{os.getpid()}-{_machine()}"


@cache
def _machine() -> str:
    """Identifies the machine or container, each of which numbers its own processes; folders may be shared."""
    container = ""
    with suppress(OSError):
        container = os.readlink("/proc/self/ns/pid")
    return f"{zlib.crc32(f'{platform.node()} {container}'.encode()):08x}"


def _clear_abandoned(folder: Path) -> None:
    """Remove partial files and folders of processes that have ended, once for each folder.

    A folder that such a process was replacing is put back, unless its replacement is there.
    """
    place = os.path.abspath(folder)
    if place in _cleared or os.name != "posix":
        return
    _cleared.add(place)
    with suppress(OSError), os.scandir(place) as entries:
        for name in [entry.name for entry in entries if entry.name.startswith(".")]:
            match = _LEFT.fullmatch(name)
            if match is None or match[3] != _machine() or not _has_ended(int(match[2])):
                continue
            if match[4] == "before" and not os.path.lexists(folder / match[1]):
                (folder / name).rename(folder / match[1])
                continue
            remove_folder(folder / name)
            (folder / name).unlink(missing_ok=True)


def _has_ended(process: int) -> bool:
    """Whether no process of this machine has this number."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # another user's
        pass
    return False


def cache_folder(part: str) -> Path:
    """The folder for one kind of cached file, following the XDG base directory specification.

    Raises RuntimeError if the user has no home directory.
    """
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "latte" / part


def remove_folder(folder: Path) -> None:
    """Remove a folder and its contents if it exists; for a symbolic link, only the link."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
