"""Files that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from latte_cli.core.errors import LatteError

BLOCK = 1 << 22  # bytes read at a time


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to: on success it is flushed and renamed to `target`, else removed.

    The path has the suffix of `target`, since writers tell formats by it. Missing parent folders are made, or
    removed again without the file. Raises LatteError when the disk or the permissions do not allow the file.
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
def made_folder(folder: Path) -> Iterator[None]:
    """A folder, made if it is not there. If nothing is put into it, it is removed again, as are the parents
    that were made for it.

    Raises LatteError when files cannot be written into it.
    """
    made = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LatteError(f"{folder}: cannot be made: {error.strerror or error}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise LatteError(f"{folder}: cannot be written to: no permission")
        yield
    finally:
        remove_empty(made)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of some folders that are empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def write_whole(target: Path, content: bytes | str) -> None:
    """Write a small file whole; text as UTF-8."""
    with whole_file(target) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def clear_partials(folder: Path, names: str = "*") -> None:
    """Remove what writers that were killed have left of files of such names in `folder`."""
    for partial in folder.glob(f".{names}.partial*"):
        with suppress(OSError):
            partial.unlink()


def cache_folder(part: str) -> Path:
    """Where the program keeps what it can make again, by the XDG base directory rules: a folder a `part`.

    Raises RuntimeError where the user has no home.
    """
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "latte" / part


def remove_folder(folder: Path) -> None:
    """Remove a folder with what it holds, if it is there; of a link to one, the link alone."""
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def sync(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
