"""Signals that stop a command: Ctrl-C, SIGTERM, and SIGHUP when its terminal or ssh session closes."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
STOPPING = (signal.SIGINT, signal.SIGTERM, *(() if HANGUP is None else (HANGUP,)))
_received: list[int] = []  # stop signals of the current command
_raised: list[int] = []  # those that raised KeyboardInterrupt


def exit_code() -> int:
    """The exit code of a stopped command: 129 for SIGHUP; 130 for Ctrl-C, and for SIGTERM, into which
    MindSpore turns a Ctrl-C while it computes."""
    return 128 + (signal.SIGINT if not _received or _received[0] != HANGUP else _received[0])


def was_interrupted() -> bool:
    """Whether a stop signal has raised KeyboardInterrupt, which C code may have turned into another error:
    a module that is just being imported raises ImportError."""
    return bool(_raised)


def keep_ctrl_c() -> None:
    """Restore Python's handler for Ctrl-C.

    MindSpore installs a handler on its first computation that turns Ctrl-C into SIGTERM. Only the main thread
    can set handlers: in another thread this does nothing.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is not None and current_thread() is main_thread():
        signal.signal(signal.SIGINT, handler)


@contextmanager
def on_stop_signals(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Call `handler` on stop signals, except those that are already ignored (`nohup` ignores SIGHUP, a
    script's background job ignores Ctrl-C).

    SIGHUP after another signal is dropped: the kernel, the shell and systemd may each send one, and it must
    not count as a second Ctrl-C. Only the main thread receives signals: in another thread this does nothing.
    """
    if current_thread() is not main_thread():
        yield
        return
    came: list[int] = []

    def take(number: int, frame: FrameType | None) -> None:
        if not (came and number == HANGUP):
            came.append(number)
            _received.append(number)
            handler(number, frame)

    heard = [number for number in STOPPING if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, take) for number in heard}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Make every stop signal raise KeyboardInterrupt, like Ctrl-C."""
    _received.clear()
    _raised.clear()

    def stop(number: int, _frame: FrameType | None) -> None:
        _raised.append(number)
        raise KeyboardInterrupt

    with on_stop_signals(stop):
        yield
