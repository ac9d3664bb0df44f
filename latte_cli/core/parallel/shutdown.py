"""Preserve a program's exit code, even if MindSpore crashes during shutdown.

MindSpore 2.10 tears down its communication when the interpreter exits. On a CPU it frees memory that another
of its threads is still reading, which often crashes a finished worker with SIGSEGV. And if its import was
interrupted, it imports itself again at exit, which fails and aborts.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_met = [False]


def note_meeting() -> None:
    """Record that this process has connected to other workers through MindSpore, on a CPU."""
    _met[0] = True


@contextmanager
def own_exit_code() -> Iterator[None]:
    """Context of a complete program: its exit code is preserved if it was connected to other workers, which
    requires the compiled kernels, and if it was interrupted while MindSpore was imported.
    """
    code = 1  # for an uncaught exception
    try:
        yield
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if _import_was_interrupted():
            _flush()
            os._exit(code)
        raise
    finally:
        if _met[0]:
            _leave_at_a_fault(code)


def _import_was_interrupted() -> bool:
    """Whether parts of MindSpore were imported, but not MindSpore."""
    return "mindspore" not in sys.modules and any(name.startswith("mindspore.") for name in sys.modules)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # the reader is gone, or it was never open
            stream.flush()


def _leave_at_a_fault(code: int) -> None:
    from latte_cli.core.kernels.build import library_path

    _flush()
    if (path := library_path()) is not None:
        ctypes.CDLL(str(path)).latte_leave_at_a_fault(code)
