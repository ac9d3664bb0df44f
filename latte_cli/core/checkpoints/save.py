"""Write weights to a MindSpore, safetensors or PyTorch file, atomically and piece by piece.

A training checkpoint of this program is one file with flat names: a section (`TRAINING_SECTIONS` in
`sections`), a slash and the parameter's name, as in "ema/blocks.0.attn.qkv.weight". Values other than arrays,
such as the step, are metadata.
"""

import json
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from latte_cli.core.checkpoints.dtypes import Bits, Dtype
from latte_cli.core.checkpoints.formats.mindspore import CRC_MARK, TEXT_TYPE
from latte_cli.core.checkpoints.formats.safetensors import CRC_KEY
from latte_cli.core.checkpoints.formats.torch_writer import write_torch
from latte_cli.core.checkpoints.limits import RefusedError, shown
from latte_cli.core.checkpoints.streaming import pieces, stored_dtype, stored_nbytes
from latte_cli.core.checkpoints.tensors import InMemory, Tensor
from latte_cli.core.errors import LatteError
from latte_cli.core.storage.files import atomic_file

MINDSPORE_SUFFIXES = (".ckpt",)
SAFETENSORS_SUFFIXES = (".safetensors",)
TORCH_SUFFIXES = (".pt", ".pth", ".bin")

_LONGEST_CRC = len(str(0xFFFFFFFF))
_SLICE_BYTES = 512 << 20  # as MindSpore: larger tensors are split into entries below protobuf's 2 GB limit


def save_weights(
    target: Path,
    arrays: Mapping[str, Bits | Tensor],
    *,
    metadata: Mapping[str, str] | None = None,
    dtype: str | None = None,
    finite: bool = False,
    entry: str | None = None,
    source: Path | None = None,
) -> None:
    """Write arrays by name in the format of the target's suffix: .ckpt, .safetensors or .pt.

    arrays: NumPy arrays, or tensors read on demand. metadata: texts to store (not in .pt). dtype: type to
    round floats to. finite: reject infinities and NaNs. entry: the key of a .pt file that contains the names.
    source: the file to name in errors about the numbers, instead of the target. Raises LatteError if the
    target cannot be written or has an unknown suffix, or if the numbers must not be written.
    """
    numpy_types = (np.ndarray, np.generic)
    tensors = {
        name: InMemory(np.asarray(array)) if isinstance(array, numpy_types) else array
        for name, array in arrays.items()
    }
    with atomic_file(target) as partial:
        try:
            if target.suffix in MINDSPORE_SUFFIXES:
                _write_mindspore(partial, tensors, metadata or {}, dtype=dtype, finite=finite)
            elif target.suffix in SAFETENSORS_SUFFIXES:
                _write_safetensors(partial, tensors, metadata or {}, dtype=dtype, finite=finite)
            elif target.suffix in TORCH_SUFFIXES:
                write_torch(partial, tensors, dtype=dtype, finite=finite, entry=entry)
            else:
                raise RefusedError(f"found suffix {target.suffix!r}, expected .ckpt, .safetensors or .pt")
        except RefusedError as refusal:
            raise LatteError(f"{source or target}: {refusal}") from refusal


def check_numbers(tensors: Mapping[str, Tensor], source: Path, *, dtype: str | None) -> None:
    """Read all numbers like `save_weights` without writing. Raises the same LatteErrors."""
    try:
        for name, tensor in tensors.items():
            deque(pieces(name, tensor, requested=dtype, finite=True), maxlen=0)
    except RefusedError as refusal:
        raise LatteError(f"{source}: {refusal}") from refusal


def _write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, dtype: str | None, finite: bool
) -> None:
    checksums = dict.fromkeys(tensors, 0)
    with path.open("wb") as file:
        file.write(_safetensors_header(tensors, metadata, checksums, dtype))
        for name, tensor in tensors.items():
            for piece in pieces(name, tensor, requested=dtype, finite=finite):
                checksums[name] = zlib.crc32(piece, checksums[name])
                file.write(piece)
        file.seek(0)
        file.write(_safetensors_header(tensors, metadata, checksums, dtype))


def _safetensors_header(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    checksums: Mapping[str, int],
    dtype: str | None,
) -> bytes:
    """The header. It is written twice, first without checksums: its length does not depend on them."""
    words = json.dumps(checksums, separators=(",", ":"))
    words += " " * sum(_LONGEST_CRC - len(str(crc)) for crc in checksums.values())
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata, CRC_KEY: words}}
    at = 0
    for name, tensor in tensors.items():
        code = _code(name, stored_dtype(tensor, dtype).safetensors, tensor.dtype)
        end = at + stored_nbytes(tensor, dtype)
        header[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    return struct.pack("<Q", len(content)) + content


def _write_mindspore(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, dtype: str | None, finite: bool
) -> None:
    """Write the message described in `formats.mindspore`, with the checksum of
    `save_checkpoint(crc_check=True)`."""
    with path.open("wb") as file:
        crc = 0
        for key, text in metadata.items():
            content = text.encode("utf-32-le")
            crc = _put(file, crc, _entry_head(key, (0,), TEXT_TYPE, len(content)) + content)
        for name, tensor in tensors.items():
            code = _code(name, stored_dtype(tensor, dtype).mindspore, tensor.dtype)
            parts = pieces(name, tensor, requested=dtype, finite=finite)
            for length, part in _entries(parts, stored_nbytes(tensor, dtype)):
                if length:
                    crc = _put(file, crc, _entry_head(name, tensor.shape, code, length))
                crc = _put(file, crc, part)
        file.write(CRC_MARK + crc.to_bytes(10, "big"))


def _entries(content: Iterable[memoryview], total: int) -> Iterator[tuple[int, memoryview]]:
    """Split the content at the ends of entries; yields an entry's length with its first part, else 0."""
    room = 0
    for piece in content:
        at = 0
        while at < len(piece):
            begins = not room
            room = room or min(total, _SLICE_BYTES)
            part = piece[at : at + room]
            yield room if begins else 0, part
            at, room, total = at + len(part), room - len(part), total - len(part)


def _put(file: IO[bytes], crc: int, content: bytes | memoryview) -> int:
    file.write(content)
    return zlib.crc32(content, crc)


def _entry_head(name: str, shape: tuple[int, ...], code: str, content_size: int) -> bytes:
    """All of a Value except the numbers, which come last."""
    tensor = b"".join(b"\x08" + _varint(size) for size in shape)
    tensor += _field(2, code.encode()) + b"\x1a" + _varint(content_size)
    value = _field(1, name.encode()) + b"\x12" + _varint(len(tensor) + content_size) + tensor
    return b"\x0a" + _varint(len(value) + content_size) + value


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _code(name: str, code: str | None, dtype: Dtype) -> str:
    if code is None:
        raise RefusedError(f"{shown(name)} is {dtype.name}, which this format does not support")
    return code
