"""Stopping between two steps when the user or the system asks for it."""

from collections.abc import Iterator
from contextlib import contextmanager

from latte_cli.core.interrupts import on_stop_signals


class StopRequest:
    """Whether a signal that asks to stop came: MindSpore makes Ctrl-C SIGTERM, so nobody can tell which."""

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
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into a request; a second one stops at once.

    Signals reach the main thread alone: in another one the request never comes.
    """
    request = StopRequest()

    def note(_number: int, _frame: object) -> None:
        if request.came:
            raise KeyboardInterrupt
        request.came = True

    with on_stop_signals(note):
        yield request
