"""A file of records that grows by complete lines, even if writers are killed."""

import os
from pathlib import Path

import pytest
from pydantic import Field

from latte_cli.core.errors import LatteError
from latte_cli.core.storage import journal as journals
from latte_cli.core.storage.journal import Journal
from latte_cli.core.storage.json_files import Model


class Line(Model):
    number: int = Field(ge=0)
    text: str | None = None


@pytest.fixture
def journal(tmp_path: Path) -> Journal[Line]:
    return Journal(tmp_path / "lines.jsonl", Line, advice="create it again")


def test_records_are_read_in_order_and_a_missing_file_has_none(journal: Journal[Line]) -> None:
    assert list(journal.read()) == []
    journal.repair()
    journal.append([Line(number=1), Line(number=2, text="\u2028\n")])
    journal.append([Line(number=3)])
    assert [line.number for line in journal.read()] == [1, 2, 3]
    assert journal.path.read_bytes().splitlines()[0] == b'{"number": 1}'


@pytest.mark.parametrize("torn", [b'{"number": 4', b'{"number": 4}', b"\0" * 64, b""])
def test_a_truncated_line_loses_only_its_record(torn: bytes, journal: Journal[Line]) -> None:
    journal.append([Line(number=1)])
    with journal.path.open("ab") as file:
        file.write(torn)
    assert [line.number for line in journal.read()] == [1]
    journal.repair()
    journal.append([Line(number=2)])
    assert [line.number for line in journal.read()] == [1, 2]


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (b"no JSON\n", "cannot be read as JSON: expected ident at line 1 column 2"),
        (b'{"number": -1}\n', "number: found -1, expected at least 0"),
        (b'["number"]\n', "found a list, expected keys and values"),
        (b"\n", "cannot be read as JSON: EOF while parsing a value at line 2 column 0"),
        (bytes(range(128, 192)) + b"!", "cannot be read as JSON"),
    ],
)
def test_a_damaged_line_is_reported_and_removed_by_repair(
    damage: bytes, fault: str, journal: Journal[Line], caplog: pytest.LogCaptureFixture
) -> None:
    journal.path.write_bytes(b'{"number": 1}\n' + damage)
    reading = journal.read()
    assert next(reading).number == 1
    with pytest.raises(LatteError) as caught:
        next(reading)
    assert str(caught.value).startswith(f"{journal.path}: line 2: {fault}")
    assert str(caught.value).endswith("; create it again")
    journal.repair()
    assert [message.startswith(f"{journal.path}: line 2: {fault}") for message in caplog.messages] == [True]
    assert journal.path.read_bytes() == b'{"number": 1}\n'


def test_a_failed_append_leaves_the_file_unchanged(
    journal: Journal[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.append([Line(number=1)])

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LatteError) as caught:
        journal.append([Line(number=2), Line(number=3)])
    assert str(caught.value) == f"{journal.path}: cannot be written: No space left on device"
    assert journal.path.read_bytes() == b'{"number": 1}\n'


def test_a_line_over_the_limit_is_an_error_and_ends_reading(
    journal: Journal[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "MAX_LINE_BYTES", 100)
    journal.append([Line(number=1), Line(number=2, text="x" * 200), Line(number=3)])
    assert list(journal.read(skip_damaged=True)) == [Line(number=1)]
    with pytest.raises(LatteError, match=r"lines\.jsonl: line 2: longer than 100 bytes"):
        list(journal.read())


def test_the_first_damaged_lines_are_named_and_the_rest_counted(
    journal: Journal[Line], caplog: pytest.LogCaptureFixture
) -> None:
    journal.path.write_bytes(b"x\n" * 10 + b'{"number": 1}\n')
    assert list(journal.read(skip_damaged=True)) == [Line(number=1)]
    assert len(caplog.messages) == 4
    assert caplog.messages[-1] == f"{journal.path}: and 7 more lines"


def test_records_are_replaced_atomically(journal: Journal[Line]) -> None:
    journal.append([Line(number=1)])
    journal.replace([Line(number=2)])
    assert [line.number for line in journal.read()] == [2]
    assert [path.name for path in journal.path.parent.iterdir()] == ["lines.jsonl"]
