"""A journal: a JSON-lines file that grows by whole lines, each a record of one type, however its writers end.

Lines are on disk when `append` returns; one that cannot be written is taken back. A last line torn by a crash
is passed over, and cut off before the next one is written.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from latte_cli.core.errors import LatteError, printable
from latte_cli.core.storage.files import write_whole
from latte_cli.core.storage.json_files import Model, open_regular, parse_json

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 8 << 20
FAULTS_SHOWN = 3
RecordType = TypeVar("RecordType", bound=Model)


class Journal(Generic[RecordType]):
    """The records of `kind` in the file `path`, which need not be there yet.

    wanted: what to do about a damaged line, said where one is refused.
    """

    def __init__(self, path: Path, kind: type[RecordType], *, wanted: str = "") -> None:
        self.path = path
        self.kind = kind
        self.wanted = wanted

    def read(self, *, passing_over: bool = False) -> Iterator[RecordType]:
        """Every record, in order.

        passing_over: lines that are no records are passed over with a warning, the first of them named.
        Raises LatteError naming the first such line otherwise, and for a file that cannot be read.
        """
        faults = 0
        for record in self._records_and_faults():
            if not isinstance(record, str):
                yield record
            elif not passing_over:
                raise LatteError(f"{record}; {self.wanted}" if self.wanted else record)
            else:
                faults += 1
                if faults <= FAULTS_SHOWN:
                    log.warning("%s: passed over", printable(record))
        if faults > FAULTS_SHOWN:
            log.warning("%s: and %d further lines", self.path, faults - FAULTS_SHOWN)

    def append(self, records: Iterable[RecordType]) -> None:
        """Add records, on disk when this returns. Raises LatteError, the file as it was, when it cannot."""
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
        """Have these records alone in the file, which appears whole. Raises LatteError when it cannot."""
        write_whole(self.path, b"".join(map(_line, records)))

    def mend(self) -> None:
        """Take out a torn last line, and with a warning lines that are no records."""
        if any(isinstance(record, str) for record in self._records_and_faults()) or not self._ends_whole():
            self.replace(list(self.read(passing_over=True)))

    def _records_and_faults(self) -> Iterator[RecordType | str]:
        """Every line's record, or what is wrong with it."""
        for number, line in enumerate(self._lines(), 1):
            source = f"{self.path}: line {number}"
            if len(line) > MAX_LINE_BYTES:
                yield f"{source}: is longer than {MAX_LINE_BYTES:,} bytes"
            elif line.endswith(b"\n") or not _is_torn(line):
                try:
                    yield parse_json(line, self.kind, source=source)
                except LatteError as error:
                    yield str(error)

    def _lines(self) -> Iterator[bytes]:
        """The lines, and of one that is too long its beginning, with which reading ends."""
        try:
            with open_regular(self.path) as file:
                while line := file.readline(MAX_LINE_BYTES + 1):
                    yield line
                    if len(line) > MAX_LINE_BYTES:
                        return
        except FileNotFoundError:
            return

    def _ends_whole(self) -> bool:
        """Whether the next line can begin where the file ends."""
        try:
            with open_regular(self.path) as file:
                return file.seek(0, os.SEEK_END) == 0 or (file.seek(-1, os.SEEK_END), file.read())[1] == b"\n"
        except FileNotFoundError:
            return True


def _line(record: Model) -> bytes:
    return (json.dumps(record.model_dump(mode="json", exclude_none=True)) + "\n").encode()


def _is_torn(line: bytes) -> bool:
    """Whether a last line without its end is what a crash leaves: the beginning of a record, or zeros."""
    return line.startswith(b"{") or not line.strip(b"\0")
