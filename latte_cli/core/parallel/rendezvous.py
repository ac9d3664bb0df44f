"""Detect whether the first machine of a run is still connected."""

import socket
import time
from contextlib import suppress

SECONDS_TO_LEAVE = 20.0  # for our workers to end, after the first machine's scheduler has ended
SECONDS_BETWEEN_TRIES = 1.0


class Meeting:
    """An idle connection to the scheduler; it breaks when the scheduler ends."""

    def __init__(self, address: tuple[str, int]):
        self.address = address
        self.connection: socket.socket | None = None
        self.lost_since: float | None = None
        self.tried = 0.0

    def is_over(self) -> bool:
        """Whether the scheduler ended so long ago that our workers should have ended too."""
        now = time.monotonic()
        if self.connection is None:
            if now - self.tried > SECONDS_BETWEEN_TRIES:
                self.tried = now
                self._connect()
            return False
        if self.lost_since is None and self._is_broken(self.connection):
            self.lost_since = now
        return self.lost_since is not None and now - self.lost_since > SECONDS_TO_LEAVE

    def close(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection.close()

    def _connect(self) -> None:
        with suppress(OSError):
            connection = socket.create_connection(self.address, timeout=SECONDS_BETWEEN_TRIES)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setblocking(False)
            self.connection = connection

    @staticmethod
    def _is_broken(connection: socket.socket) -> bool:
        try:
            return connection.recv(4096) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True
