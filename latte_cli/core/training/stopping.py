"""Stop between steps on request of the user or the system."""

from collections.abc import Iterator
from contextlib import contextmanager

from latte_cli.core.machine.interrupts import on_stop_signals


class StopRequest:
    """Whether a stop signal was received. MindSpore turns Ctrl-C into SIGTERM, so these are not distinct."""

    came = False

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.came

    def finish(self, step: int, steps: int) -> None:
        """Raise KeyboardInterrupt if a signal was received; call after saving this step of `steps`."""
        if self.came and step < steps:
            raise KeyboardInterrupt(f"interrupted; step {step} is saved: add --resume auto to continue")
        if self.came:
            raise KeyboardInterrupt(f"interrupted; the run is complete: step {step} of {steps} is saved")


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into a request; a second one stops immediately.

    Only the main thread receives signals: in another thread there is never a request.
    """
    request = StopRequest()

    def note(_number: int, _frame: object) -> None:
        if request.came:
            raise KeyboardInterrupt
        request.came = True

    with on_stop_signals(note):
        yield request
