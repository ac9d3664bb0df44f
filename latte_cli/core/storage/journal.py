"""An append-only JSON-lines file of records of one type that survives crashes of its writer.

Lines are on disk when `append` returns; a failed append leaves the file unchanged. A last line truncated by a
crash is ignored when reading and removed by `repair`.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from latte_cli.core.errors import LatteError, printable
from latte_cli.core.storage.files import write_file
from latte_cli.core.storage.json_files import Model, open_regular, parse_json

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 8 << 20
FAULTS_SHOWN = 3
RecordType = TypeVar("RecordType", bound=Model)


class Journal(Generic[RecordType]):
    """The records of type `kind` in the file `path`, which may not exist yet.

    advice: what to do about a damaged line, added to the error message.
    """

    def __init__(self, path: Path, kind: type[RecordType], *, advice: str = "") -> None:
        self.path = path
        self.kind = kind
        self.advice = advice

    def read(self, *, skip_damaged: bool = False) -> Iterator[RecordType]:
        """Every record, in order.

        skip_damaged: skip damaged lines with a warning, instead of raising LatteError for the first one.
        Raises LatteError if the file cannot be read.
        """
        faults = 0
        for record in self._records_and_faults():
            if not isinstance(record, str):
                yield record
            elif not skip_damaged:
                raise LatteError(f"{record}; {self.advice}" if self.advice else record)
            else:
                faults += 1
                if faults <= FAULTS_SHOWN:
                    log.warning("%s: skipped", printable(record))
        if faults > FAULTS_SHOWN:
            log.warning("%s: and %d more lines", self.path, faults - FAULTS_SHOWN)

    def append(self, records: Iterable[RecordType]) -> None:
        """Append records and flush to disk. On failure raises LatteError and leaves the file unchanged."""
        try:
            with self.path.open("ab") as file:
                before = file.tell()
                try:
                    file.write(b"".join(map(_line, records)))
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    with suppress(OSError):
                        file.close()
                    os.truncate(self.path, before)
                    raise
        except OSError as error:
            raise LatteError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def replace(self, records: Iterable[RecordType]) -> None:
        """Atomically replace the contents with these records. Raises LatteError on failure."""
        write_file(self.path, b"".join(map(_line, records)))

    def repair(self) -> None:
        """Remove a truncated last line and, with a warning, damaged lines."""
        damaged = any(isinstance(record, str) for record in self._records_and_faults())
        if damaged or not self._ends_with_newline():
            self.replace(list(self.read(skip_damaged=True)))

    def _records_and_faults(self) -> Iterator[RecordType | str]:
        """Each line's record, or a description of its error."""
        for number, line in enumerate(self._lines(), 1):
            source = f"{self.path}: line {number}"
            if len(line) > MAX_LINE_BYTES:
                yield f"{source}: longer than {MAX_LINE_BYTES:,} bytes"
            elif line.endswith(b"\n") or not _is_truncated(line):
                try:
                    yield parse_json(line, self.kind, source=source)
                except LatteError as error:
                    yield str(error)

    def _lines(self) -> Iterator[bytes]:
        """The lines; stops after the beginning of a line that is too long."""
        try:
            with open_regular(self.path) as file:
                while line := file.readline(MAX_LINE_BYTES + 1):
                    yield line
                    if len(line) > MAX_LINE_BYTES:
                        return
        except FileNotFoundError:
            return

    def _ends_with_newline(self) -> bool:
        """Whether the file is missing, empty or ends with a newline."""
        try:
            with open_regular(self.path) as file:
                return file.seek(0, os.SEEK_END) == 0 or (file.seek(-1, os.SEEK_END), file.read())[1] == b"\n"
        except FileNotFoundError:
            return True


def _line(record: Model) -> bytes:
    return (json.dumps(record.model_dump(mode="json", exclude_none=True)) + "\n").encode()


def _is_truncated(line: bytes) -> bool:
    """Whether an unterminated last line is the result of a crash: part of a record, or zero bytes."""
    return line.startswith(b"{") or not line.strip(b"\0")
