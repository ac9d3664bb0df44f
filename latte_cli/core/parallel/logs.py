"""Workers' logs: forward the first worker's output, and find the reason why a worker ended."""

import re
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

TAIL_BYTES = 64 * 1024
LONGEST_REASON = 300  # characters, for a terminal; the log has the complete text
MINDSPORE_LINE = re.compile(rb"\[(DEBUG|INFO|WARNING|ERROR|CRITICAL|TRACE)\] [A-Z_]+\(\d+,")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
EXCEPTION = re.compile(r"[\w.]*(Error|Exception|Interrupt|Exit)(:|$)")
NOT_A_REASON = re.compile(r"\s|-{4,}|- [A-Z]|mindspore/|\(called from|\d+ (warnings?|errors?)$")


class Relay:
    """Forwards new lines of a log, except MindSpore's own."""

    def __init__(self, log: Path, to: BinaryIO):
        self.log, self.to = log, to
        self.read, self.held = 0, b""

    def pump(self, *, last: bool = False) -> None:
        """Forward new content; `last`: including an incomplete line."""
        try:
            with self.log.open("rb") as file:
                file.seek(self.read)
                new = file.read()
        except FileNotFoundError:
            return
        self.read += len(new)
        *lines, rest = (self.held + new).split(b"\n")
        shown = [line + b"\n" for line in lines if not MINDSPORE_LINE.match(line)]
        holds = rest.startswith(b"[") and not last
        self.held = rest if holds else b""
        if not holds:
            shown.append(rest)
        if any(shown):
            with suppress(OSError):  # the reader is gone: the log has the output, and the workers continue
                self.to.write(b"".join(shown))
                self.to.flush()


def last_error(log: Path) -> str:
    """The line of a log that most likely explains why its process ended; "" for an empty log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            tail = file.read()
    except FileNotFoundError:
        return ""
    text = [line for line in tail.split(b"\n") if not MINDSPORE_LINE.match(line)]
    lines = [ESCAPES.sub("", line.decode(errors="replace")) for line in text]
    lines = [line.rstrip() for line in lines if line.strip() and not NOT_A_REASON.match(line)]
    errors = [line for line in lines[-20:] if EXCEPTION.match(line)]
    return (errors or lines or [""])[-1][:LONGEST_REASON]
