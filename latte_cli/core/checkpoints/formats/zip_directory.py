"""Find the members of a zip file from its directory.

Stricter than zip: members are not compressed; no two share a byte or a name; the directory ends where the end
record begins; every local header agrees with it. So all zip readers see the same members, and nothing can
expand. Names are used as dictionary keys, never as paths.
"""

import struct
from itertools import pairwise
from typing import NamedTuple

from latte_cli.core.checkpoints.limits import MAX_NAME_BYTES, MAX_TENSORS, RefusedError, shown

SIGNATURE = b"PK\x03\x04"
_END, _END64, _LOCATOR64, _ENTRY = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02"
_END_SIZE, _LOCATOR_SIZE, _END64_SIZE, _ENTRY_SIZE, _LOCAL_SIZE = 22, 20, 56, 46, 30
_LONGEST_COMMENT = 0xFFFF
_IN_ZIP64 = 0xFFFFFFFF
_ALLOWED_FLAGS = 0x0808  # sizes after the data, name in UTF-8: the flags that PyTorch sets
_SIZES_AFTER = 0x0008
_DEFLATED = 8
_ZIP64_EXTRA = 1

_NO_DIRECTORY = "is truncated: a zip file (PyTorch's) without the directory at its end"


class Member(NamedTuple):
    """Position and expected CRC-32 of a member's bytes."""

    start: int
    end: int
    crc: int


class _Entry(NamedTuple):
    name: str
    header: int
    size: int
    crc: int
    flags: int
    method: int


def read_directory(content: memoryview, *, skip: str | None = None) -> dict[str, Member]:
    """Every stored member by name. Raises RefusedError if the file is damaged or not a plain zip.

    skip: ignore compressed members whose name contains this text; other compressed members are rejected.
    """
    count, start, end = _find_directory(content)
    if count > MAX_TENSORS:
        raise RefusedError(f"its zip directory lists {count} members")
    members: dict[str, Member | None] = {}
    taken: list[tuple[int, int]] = []
    at = start
    for _ in range(count):
        entry, at = _read_entry(content, at, end, skip)
        if entry.name in members:
            raise RefusedError(f"its zip directory lists {shown(entry.name)} twice")
        first = _check_local_header(content, entry, before=start)
        stored = entry.method == 0
        members[entry.name] = Member(first, first + entry.size, entry.crc) if stored else None
        taken.append((entry.header, first + entry.size))
    if at != end:
        raise RefusedError("its zip directory is malformed: it contains more than its members")
    taken.sort()
    if any(later[0] < earlier[1] for earlier, later in pairwise(taken)):
        raise RefusedError("two members of its zip overlap")
    return {name: member for name, member in members.items() if member is not None}


def _find_directory(content: memoryview) -> tuple[int, int, int]:
    """The directory's number of entries, start and end."""
    tail_start = max(0, len(content) - _END_SIZE - _LONGEST_COMMENT)
    tail = bytes(content[tail_start:])
    found = tail.rfind(_END)
    while found >= 0:
        fields = tail[found : found + _END_SIZE]
        if len(fields) == _END_SIZE and found + _END_SIZE + struct.unpack_from("<H", fields, 20)[0] == len(
            tail
        ):
            break
        found = tail.rfind(_END, 0, found)
    if found < 0:
        raise RefusedError(_NO_DIRECTORY)
    disks, count, size, start = struct.unpack_from("<4xI2xHII", fields)
    end = tail_start + found
    locator = end - _LOCATOR_SIZE
    if locator >= 0 and content[locator : locator + 4] == _LOCATOR64:
        end, (count64, size64, start64) = _read_end64(content, locator)
        for small, saturated, large in (
            (count, 0xFFFF, count64),
            (size, _IN_ZIP64, size64),
            (start, _IN_ZIP64, start64),
        ):
            if small not in (saturated, large):
                raise RefusedError("the two ends of its zip directory disagree")
        count, size, start = count64, size64, start64
    if disks or start + size != end:
        raise RefusedError(
            "its zip directory is misplaced: the file is truncated, damaged or joined to another"
        )
    return count, start, end


def _read_end64(content: memoryview, locator: int) -> tuple[int, tuple[int, int, int]]:
    disk, at, disks = struct.unpack("<4xIQI", content[locator : locator + _LOCATOR_SIZE])
    if disk or disks != 1 or at + _END64_SIZE != locator or content[at : at + 4] != _END64:
        raise RefusedError("the end of its zip directory is malformed")
    disk, start_disk, here, count, size, start = struct.unpack("<16xIIQQQQ", content[at : at + _END64_SIZE])
    if disk or start_disk or here != count:
        raise RefusedError("its zip spans several files")
    return at, (count, size, start)


def _read_entry(content: memoryview, at: int, end: int, skip: str | None) -> tuple[_Entry, int]:
    """The directory entry at `at`, and the position of the next one."""
    if at + _ENTRY_SIZE > end or content[at : at + 4] != _ENTRY:
        raise RefusedError("its zip directory is malformed")
    flags, method, crc, packed, size, name_length, extra_length, comment_length, disk, header = struct.unpack(
        "<8xHH4xIIIHHHH6xI", content[at : at + _ENTRY_SIZE]
    )
    name_end = at + _ENTRY_SIZE + name_length
    extra_end = name_end + extra_length
    following = extra_end + comment_length
    if following > end or name_length > MAX_NAME_BYTES:
        raise RefusedError("its zip directory is malformed")
    try:
        name = str(content[at + _ENTRY_SIZE : name_end], "utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError("a member of its zip has a name that is not UTF-8") from error
    if _IN_ZIP64 in (size, packed, header):
        size, packed, header = _large_numbers(content[name_end:extra_end], [size, packed, header])
    if method and (method != _DEFLATED or skip is None or skip not in name):
        raise RefusedError(f"{shown(name)} is compressed, which PyTorch's weights never are")
    if flags & ~_ALLOWED_FLAGS or disk or (packed != size and not method):
        raise RefusedError(
            f"{shown(name)} is not a plain zip member (encrypted or spanning several files, for example)"
        )
    return _Entry(name, header, packed, crc, flags, method), following


def _large_numbers(extra: memoryview, numbers: list[int]) -> list[int]:
    """The entry's sizes and position; values that do not fit 32 bits are read from its zip64 field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack("<HH", extra[at : at + 4])
        values = extra[at + 4 : at + 4 + length]
        if kind == _ZIP64_EXTRA and len(values) == length:
            large = iter(struct.unpack(f"<{length // 8}Q", values[: length // 8 * 8]))
            whole = [next(large, _IN_ZIP64) if number == _IN_ZIP64 else number for number in numbers]
            if next(large, None) is None and _IN_ZIP64 not in whole:
                return whole
        at += 4 + length
    raise RefusedError("its zip directory is malformed")


def _check_local_header(content: memoryview, entry: _Entry, *, before: int) -> int:
    """Start of the member's bytes. Raises RefusedError if its local header is misplaced or differs."""
    fields = content[entry.header : entry.header + _LOCAL_SIZE]
    if len(fields) < _LOCAL_SIZE or fields[:4] != SIGNATURE:
        raise RefusedError(f"is truncated or damaged: {shown(entry.name)} is not where the directory says")
    flags, method, crc, packed, size, name_length, extra_length = struct.unpack("<6xHH4xIIIHH", fields)
    name_start = entry.header + _LOCAL_SIZE
    start = name_start + name_length + extra_length
    same_name = content[name_start : name_start + name_length] == entry.name.encode()
    sizes_known = not flags & _SIZES_AFTER
    same_sizes = not sizes_known or method or (crc == entry.crc and {size, packed} <= {entry.size, _IN_ZIP64})
    if flags != entry.flags or method != entry.method or not same_name or not same_sizes:
        raise RefusedError(f"the header of {shown(entry.name)} disagrees with the zip's directory")
    if start + entry.size > before:
        raise RefusedError(f"is truncated or damaged: {shown(entry.name)} does not fit into it")
    return start
