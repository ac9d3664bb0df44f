"""A process that ends with the one that started it."""

import ctypes
import os
import signal

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def end_with(parent: int) -> None:
    """Make Linux kill this process when `parent`, which started it, ends; exit if it has ended already.

    Does nothing on other systems.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
