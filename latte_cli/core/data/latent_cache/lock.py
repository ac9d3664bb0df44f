"""One run of `latte cache` at a time on a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latte_cli.core.errors import LatteError

LOCK = "lock"


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
