"""The metrics of a run as TensorBoard event files."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)


class EventLog:
    """Writes scalars to a new event file in `folder`, unbuffered.

    `next_step` is the first step to come: TensorBoard drops events of earlier files from this step. A write
    error is logged once and ends the log, not the run.
    """

    def __init__(self, folder: Path, *, next_step: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._writer: EventsWriter | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # TensorBoard reads files in the order of their names: a counter orders those of the same second.
            self._writer = EventsWriter(str(folder / "events"), f".{len(list(folder.iterdir())):04d}")
            start = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=next_step, session_log=start))
        except OSError as error:
            self._give_up(error)

    def add(self, line: Mapping[str, float]) -> None:
        """Write the values of a metrics line at its step."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        if self._writer is None:
            return
        numbers = [
            Summary.Value(tag=name, simple_value=number) for name, number in line.items() if name != "step"
        ]
        try:
            self._write(Event(wall_time=time.time(), step=int(line["step"]), summary=Summary(value=numbers)))
        except OSError as error:
            self._give_up(error)

    def _write(self, event: object) -> None:
        assert self._writer is not None
        self._writer.write_event(event)
        self._writer.flush()

    def _give_up(self, error: OSError) -> None:
        self._writer = None
        log.warning("no more TensorBoard events: %s", error)
