"""Ctrl-C and SIGTERM where MindSpore computes, which takes Ctrl-C for itself."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread


def keep_ctrl_c() -> None:
    """Give Ctrl-C back to Python's handler.

    MindSpore sets a handler of its own when it first computes, which turns Ctrl-C into SIGTERM. Only the main
    thread can set one: in another nothing happens.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is not None and current_thread() is main_thread():
        signal.signal(signal.SIGINT, handler)


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Have SIGTERM raise KeyboardInterrupt, as Ctrl-C does: the system's, and what MindSpore makes of
    Ctrl-C."""
    if current_thread() is not main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
