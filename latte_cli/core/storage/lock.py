"""A lock that allows one run at a time in a folder."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latte_cli.core.errors import LatteError
from latte_cli.core.storage.files import new_folder

LOCK = "lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)  # of some network file systems


@contextmanager
def only_run(folder: Path, command: str) -> Iterator[None]:
    """Lock a folder for one run of a command; the folder is created if missing and removed if it stays empty.

    Raises LatteError if another run holds the lock. The lock ends with the process. On file systems without
    locks there is no protection.
    """
    import fcntl

    path = folder / LOCK
    with new_folder(folder):
        try:
            file = path.open("a+")
        except OSError as error:
            raise LatteError(f"{folder}: cannot be written: {error.strerror or error}") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The previous holder may have removed the file since it was opened.
                held = os.fstat(file.fileno()).st_ino == path.stat().st_ino
            except OSError as error:
                held = error.errno in NO_LOCKS
            if not held:
                raise LatteError(f"{folder}: another {command} is running in this folder")
            try:
                yield
            finally:
                path.unlink(missing_ok=True)


def is_held(folder: Path) -> bool:
    """Whether a run has locked a folder now. Does not create or lock anything."""
    import fcntl

    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock file, or a file system without locks
        return False
    return False
