"""Stopping between two steps when the user or the system asks for it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread


class StopRequest:
    """Whether a signal came, and which."""

    signal: int | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    def finish(self) -> None:
        """End the process as the signal would have, once all is saved: exit code 130 or 143."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn SIGTERM and the first Ctrl-C into a request; a second Ctrl-C stops at once.

    Signals reach the main thread alone: in another one the request never comes.
    """
    request = StopRequest()
    if current_thread() is not main_thread():
        yield request
        return

    def note(number: int, _frame: object) -> None:
        if request.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = number

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
