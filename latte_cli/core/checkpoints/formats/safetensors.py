"""Read safetensors: a JSON header, then the tensors without gaps (format description of safetensors)."""

import json
import math
import struct
from pathlib import Path
from typing import Any

from latte_cli.core.checkpoints.dtypes import SAFETENSORS_NAMES
from latte_cli.core.checkpoints.limits import (
    MAX_DIMENSIONS,
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    RefusedError,
    shown,
)
from latte_cli.core.checkpoints.tensors import Storage, StoredTensor

CRC_KEY = "crc32"
"""Metadata key of this program's own files: the CRC-32 of each tensor by name, as JSON."""


def looks_like(mapped: memoryview) -> bool:
    """Whether a file starts like a safetensors header."""
    return len(mapped) > 8 and bytes(mapped[8:9]) == b"{" and struct.unpack("<Q", mapped[:8])[0] <= 1 << 32


def read_safetensors(path: Path, mapped: memoryview) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Tensors by name, and the metadata. Raises RefusedError if the header does not match the data."""
    length = struct.unpack("<Q", mapped[:8])[0]
    if length > min(MAX_HEADER_BYTES, len(mapped) - 8):
        raise RefusedError(f"is truncated or damaged: its header claims {length} bytes")
    header = read_json(bytes(mapped[8 : 8 + length]))
    metadata = _metadata(header.pop("__metadata__", {}))
    if len(header) > MAX_TENSORS:
        raise RefusedError(f"its header lists {len(header)} tensors")
    data = 8 + length
    spans = {name: _span(name, entry) for name, entry in header.items()}
    at = 0
    for name in sorted(spans, key=spans.__getitem__):
        if spans[name][0] != at:
            raise RefusedError(
                f"its header is malformed: {shown(name)} overlaps another tensor or leaves a gap"
            )
        at = spans[name][1]
    if data + at != len(mapped):
        raise RefusedError(f"is truncated or damaged: {len(mapped)} bytes, its header describes {data + at}")
    checksums = _checksums(metadata.pop(CRC_KEY, "{}"))
    tensors = {}
    for name, entry in header.items():
        begin, end = spans[name]
        storage = Storage(path, name, mapped, [(data + begin, data + end)], checksums.get(name))
        tensors[name] = StoredTensor(SAFETENSORS_NAMES[entry["dtype"]], tuple(entry["shape"]), storage)
    return tensors, metadata


def read_json(content: bytes) -> dict[str, Any]:
    """Parse a JSON object without duplicate keys.

    Raises RefusedError for anything else, and for numbers too long to be sizes.
    """
    try:
        value = json.loads(
            content, parse_int=_size, parse_float=_no_number, object_pairs_hook=_without_repeats
        )
    except (ValueError, RecursionError) as error:
        raise RefusedError("is truncated or damaged: its JSON cannot be read") from error
    if not isinstance(value, dict):
        raise RefusedError("its JSON is not an object")
    return value


def _size(digits: str) -> int:
    if len(digits) > 19:
        raise RefusedError("its JSON contains a number that cannot be a size")
    return int(digits)


def _no_number(digits: str) -> float:
    return math.nan if len(digits) > 40 else float(digits)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise RefusedError("its JSON has a duplicate key")
    return entries


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise RefusedError("its header is malformed: its metadata is not text")
    return dict(value)


def _span(name: str, entry: object) -> tuple[int, int]:
    """Begin and end of a tensor's bytes after the header, checked against its shape and type."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise RefusedError(f"its header is malformed at {shown(name)}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not (_are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2 and len(shape) <= MAX_DIMENSIONS):
        raise RefusedError(f"its header is malformed at {shown(name)}")
    dtype = SAFETENSORS_NAMES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise RefusedError(f"{shown(name)} has an unknown data type, {shown(entry['dtype'])}")
    if offsets[1] - offsets[0] != math.prod(shape) * dtype.bits.itemsize:
        raise RefusedError(f"its header is malformed: the size of {shown(name)} does not match its shape")
    return offsets[0], offsets[1]


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 48 for item in value)


def _checksums(text: str) -> dict[str, int]:
    """Checksums by name; empty if the text was not written by this program."""
    try:
        values = read_json(text.encode("utf-8", "surrogatepass"))
    except RefusedError:
        return {}
    return {name: crc for name, crc in values.items() if type(crc) is int}
