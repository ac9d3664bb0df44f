"""Read MindSpore's `.ckpt`, a protobuf message, without MindSpore and without copying the numbers.

The message (mindspore/train/checkpoint.proto): `Checkpoint { repeated Value value = 1 }`, `Value { string tag
= 1; TensorProto tensor = 2; MapTensorProto maptensor = 3 }`, `TensorProto { repeated int64 dims = 1; string
tensor_type = 2; bytes tensor_content = 3 }`. A large tensor is split into several Values with the same tag.
`crc_check=True` appends "crc_num" and the CRC-32 of everything before it in ten bytes.
"""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from latte_cli.core.checkpoints.dtypes import MINDSPORE_NAMES
from latte_cli.core.checkpoints.limits import MAX_DIMENSIONS, MAX_NAME_BYTES, MAX_TENSORS, RefusedError, shown
from latte_cli.core.checkpoints.tensors import Storage, StoredTensor

CRC_MARK = b"crc_num"
CRC_TRAILER_SIZE = len(CRC_MARK) + 10
CRC_PIECE = 1 << 26  # bytes in memory at once while a file's checksum is computed
TEXT_TYPE = "str"  # MindSpore stores text as NumPy's fixed-width Unicode: four bytes per character
_LONGEST_TEXT = 1 << 20

_MALFORMED = "is truncated or damaged: not a complete MindSpore checkpoint"
_VARINT, _BYTES = 0, 2
_FIRST_BYTES = 1 << 3 | _BYTES  # the key of field 1, of type bytes
Span = tuple[int, int]


@dataclass
class _Entry:
    """A tensor collected from one or more Values."""

    type: str
    dims: tuple[int, ...]
    pieces: list[Span] = field(default_factory=list)


def looks_like(mapped: memoryview) -> bool:
    """Whether a file starts like a MindSpore checkpoint: with a Value whose first field is its tag."""
    start = bytes(mapped[: 32 + MAX_NAME_BYTES])
    try:
        _, tag_key = _varint(mapped, 1, len(start))
        length, tag = _varint(mapped, tag_key + 1, len(start))
        return start[0] == start[tag_key] == _FIRST_BYTES and start[tag : tag + length].decode().isprintable()
    except (RefusedError, IndexError, UnicodeDecodeError):
        return False


def read_checkpoint(path: Path, mapped: memoryview) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Tensors and texts by tag. Raises RefusedError if the message is malformed or its checksum is wrong."""
    end = len(mapped)
    if end >= CRC_TRAILER_SIZE and mapped[end - CRC_TRAILER_SIZE : end - 10] == CRC_MARK:
        end -= CRC_TRAILER_SIZE
        if _checksum(path, mapped, end) != int.from_bytes(mapped[end + len(CRC_MARK) :], "big"):
            raise RefusedError("is damaged: its bytes do not match their checksum")
    tensors: dict[str, StoredTensor] = {}
    texts: dict[str, str] = {}
    for tag, entry in _entries(mapped, end).items():
        storage = Storage(path, tag, mapped, tuple(entry.pieces))
        if entry.type == TEXT_TYPE:
            texts[tag] = _text(storage)
            continue
        dtype = MINDSPORE_NAMES.get(entry.type)
        if dtype is None:
            raise RefusedError(f"{shown(tag)} has an unknown data type, {shown(entry.type)}")
        dims = () if entry.dims == (0,) and storage.nbytes else entry.dims
        if storage.nbytes != math.prod(dims) * dtype.bits.itemsize:
            raise RefusedError(
                f"{shown(tag)} has {storage.nbytes} bytes, which does not match its shape {dims}"
            )
        tensors[tag] = StoredTensor(dtype, dims, storage)
    return tensors, texts


def _entries(mapped: memoryview, end: int) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    last = ""
    for number, *span in _fields(mapped, (0, end), most=MAX_TENSORS):
        if number != 1:
            raise RefusedError(_MALFORMED)
        tag, entry = _value(mapped, (span[0], span[1]))
        if tag not in entries:
            entries[tag] = entry
        elif tag == last and (entry.type, entry.dims) == (entries[tag].type, entries[tag].dims):
            entries[tag].pieces += entry.pieces
        else:
            raise RefusedError(f"it contains {shown(tag)} twice")
        last = tag
    return entries


def _value(mapped: memoryview, span: Span) -> tuple[str, _Entry]:
    fields = {number: (start, end) for number, start, end in _fields(mapped, span, most=2)}
    if 3 in fields:
        raise RefusedError("it contains a hash table, which weights do not need")
    if fields.keys() != {1, 2}:
        raise RefusedError(_MALFORMED)
    dims: list[int] = []
    parts: dict[int, Span] = {}
    for number, start, end in _fields(mapped, fields[2], most=MAX_DIMENSIONS + 2):
        if number == 1:
            dims += _integers(mapped, (start, end))
        elif number in parts or number not in (2, 3):
            raise RefusedError(_MALFORMED)
        else:
            parts[number] = (start, end)
    if parts.keys() != {2, 3} or len(dims) > MAX_DIMENSIONS or not all(0 <= size < 1 << 48 for size in dims):
        raise RefusedError(_MALFORMED)
    return _name(mapped, fields[1]), _Entry(_name(mapped, parts[2]), tuple(dims), [parts[3]])


def _fields(mapped: memoryview, span: Span, *, most: int) -> Iterator[tuple[int, int, int]]:
    """Each field's number and the span of its content: its bytes, or the bytes of its varint."""
    at, end = span
    count = 0
    while at < end:
        count += 1
        if count > most:
            raise RefusedError(f"{_MALFORMED}: more than {most} entries")
        key, at = _varint(mapped, at, end)
        if key & 7 == _BYTES:
            length, at = _varint(mapped, at, end)
            following = at + length
        elif key & 7 == _VARINT:
            _, following = _varint(mapped, at, end)
        else:
            raise RefusedError(_MALFORMED)
        if following > end:
            raise RefusedError(_MALFORMED)
        yield key >> 3, at, following
        at = following


def _varint(mapped: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for index in range(min(10, end - at)):
        byte = mapped[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise RefusedError(_MALFORMED)


def _integers(mapped: memoryview, span: Span) -> list[int]:
    """One varint, or several packed ones."""
    at, end = span
    values: list[int] = []
    while at < end and len(values) <= MAX_DIMENSIONS:
        value, at = _varint(mapped, at, end)
        values.append(value)
    return values


def _name(mapped: memoryview, span: Span) -> str:
    if not 0 < span[1] - span[0] <= MAX_NAME_BYTES:
        raise RefusedError(_MALFORMED)
    try:
        return str(mapped[slice(*span)], "utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError(_MALFORMED) from error


def _checksum(path: Path, mapped: memoryview, end: int) -> int:
    """CRC-32 of a file up to `end`, its pages given back on the way."""
    crc = 0
    for start in range(0, end, CRC_PIECE):
        piece = Storage(path, "checksum", mapped, ((start, min(end, start + CRC_PIECE)),))
        crc = zlib.crc32(piece.bytes(), crc)
        piece.release()
    return crc


def _text(storage: Storage) -> str:
    if storage.nbytes > _LONGEST_TEXT:
        raise RefusedError(f"its text {shown(storage.label)} has {storage.nbytes} bytes")
    try:
        return str(storage.bytes(), "utf-32-le")
    except UnicodeDecodeError as error:
        raise RefusedError(_MALFORMED) from error
