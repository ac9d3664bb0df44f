"""Stopping between two steps when the user or the system asks for it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread


class StopRequest:
    """Whether Ctrl-C or SIGTERM came: MindSpore makes the one the other, so that nobody can tell which."""

    came = False

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.came

    def finish(self) -> None:
        """End as Ctrl-C does, once all is saved. Raises KeyboardInterrupt if a signal came."""
        if self.came:
            raise KeyboardInterrupt


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn the first Ctrl-C or SIGTERM into a request; a second one stops at once.

    Signals reach the main thread alone: in another one the request never comes.
    """
    request = StopRequest()
    if current_thread() is not main_thread():
        yield request
        return

    def note(_number: int, _frame: object) -> None:
        if request.came:
            raise KeyboardInterrupt
        request.came = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
