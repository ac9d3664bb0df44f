"""Preserve a worker's exit code, even if MindSpore crashes during shutdown.

MindSpore 2.10 tears down its communication when the interpreter exits. On a CPU it frees memory that another
of its threads is still reading, which often crashes a finished worker with SIGSEGV.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_met = [False]


def note_meeting() -> None:
    """Record that this process has connected to other workers through MindSpore, on a CPU."""
    _met[0] = True


@contextmanager
def own_exit_code() -> Iterator[None]:
    """Context of a complete program: if it was connected to other workers, its exit code is preserved.

    Requires the compiled kernels.
    """
    code = 1  # for an uncaught exception
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
        with suppress(OSError, ValueError, AttributeError):  # the reader is gone, or it was never open
            stream.flush()
    if (path := library_path()) is not None:
        ctypes.CDLL(str(path)).latte_leave_at_a_fault(code)
