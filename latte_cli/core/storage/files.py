"""Atomic writes: a file appears complete or not at all."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from latte_cli.core.errors import LatteError

BLOCK = 1 << 22  # bytes read at a time


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """A temporary path next to `target` to write to: renamed to `target` on success, otherwise removed.

    The path keeps the suffix of `target`, from which writers infer the format. Missing parent folders are
    created, and removed again if the write fails. Raises LatteError if the file cannot be written.
    """
    made = [place for place in target.parents if not os.path.lexists(place)]
    partial = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
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
    if target.exists() and not force:
        raise LatteError(f"{target}: already exists; use --force to replace it")
    partial, before = (
        target.with_name(f".{target.name}.{os.getpid()}.{word}") for word in ("partial", "before")
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
