"""How a worker ends: by its own exit code, whatever MindSpore does on the way out.

MindSpore 2.10 takes leave of the other workers as the interpreter ends. On a CPU it does so beside a thread
of its own that is still reading what it frees, which ends many a worker in SIGSEGV, all its work done.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_met = [False]


def note_meeting() -> None:
    """Say that this process has met other workers through MindSpore, on a CPU."""
    _met[0] = True


@contextmanager
def own_exit_code() -> Iterator[None]:
    """Around all that a program does: if it met other workers, nothing after it changes its exit code.

    Without the compiled kernels it may still.
    """
    code = 1  # of an exception that nobody caught
    try:
        yield
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    finally:
        if _met[0]:
            _leave_at_a_fault(code)


def _leave_at_a_fault(code: int) -> None:
    from latte_cli.core.kernels.build import library_path

    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # nobody reads it any more, or it never was open
            stream.flush()
    if (path := library_path()) is not None:
        ctypes.CDLL(str(path)).latte_leave_at_a_fault(code)
