"""One run at a time in a folder."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latte_cli.core.errors import LatteError
from latte_cli.core.storage.files import made_folder

LOCK = "lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # of some network file systems


@contextmanager
def only_run(folder: Path, command: str) -> Iterator[None]:
    """Hold a folder for one run of a command, made if it is not there and removed if it stays empty.

    Raises LatteError when another run has it; a run that died holds nothing. Where the file system has no
    locks, nothing is held.
    """
    import fcntl

    path = folder / LOCK
    with made_folder(folder):
        try:
            file = path.open("a+")
        except OSError as error:
            raise LatteError(f"{folder}: cannot be written: {error.strerror or error}") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Not one that its holder just removed.
                held = os.fstat(file.fileno()).st_ino == path.stat().st_ino
            except OSError as error:
                held = error.errno in NO_LOCKS
            if not held:
                raise LatteError(f"{folder}: another {command} is at work on this folder")
            try:
                yield
            finally:
                path.unlink(missing_ok=True)


def is_held(folder: Path) -> bool:
    """Whether a run holds a folder now. Nothing is made or held by asking."""
    import fcntl

    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock file, or a file system without locks
        return False
    return False
