"""Write PyTorch's zip format without PyTorch, readable by `torch.load(weights_only=True)`."""

import io
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from latte_cli.core.checkpoints.limits import RefusedError, shown
from latte_cli.core.checkpoints.streaming import pieces, stored_dtype, stored_nbytes
from latte_cli.core.checkpoints.tensors import Tensor, row_major

_FOLDER = "archive"
_VERSION = b"3\n"  # of the zip format, in every file since PyTorch 1.6


def write_torch(
    target: Path, tensors: Mapping[str, Tensor], *, dtype: str | None, finite: bool, entry: str | None
) -> None:
    """Write a state dict, under the key `entry` if given.

    Raises RefusedError for numbers that must not be written.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{_FOLDER}/data.pkl", _pickle(tensors, dtype, entry))
        archive.writestr(f"{_FOLDER}/byteorder", b"little")
        for index, (name, tensor) in enumerate(tensors.items()):
            member = zipfile.ZipInfo(f"{_FOLDER}/data/{index}")
            member.file_size = stored_nbytes(tensor, dtype)
            with archive.open(member, "w") as file:
                for piece in pieces(name, tensor, requested=dtype, finite=finite):
                    file.write(piece)
        archive.writestr(f"{_FOLDER}/version", _VERSION)


def _pickle(tensors: Mapping[str, Tensor], dtype: str | None, entry: str | None) -> bytes:
    """The pickle, protocol 2, of an OrderedDict of tensors over storages 0, 1, 2, ..."""
    out = io.BytesIO()
    out.write(b"\x80\x02")
    if entry is not None:
        out.write(b"}" + _text(entry))
    out.write(b"ccollections\nOrderedDict\n)R(")
    for index, (name, tensor) in enumerate(tensors.items()):
        number = stored_dtype(tensor, dtype)
        if number.torch is None:
            raise RefusedError(f"{shown(name)} is {number.name}, which PyTorch files cannot contain")
        count = stored_nbytes(tensor, dtype) // number.bits.itemsize
        out.write(_text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(")
        kind = f"ctorch\n{number.torch}Storage\n".encode()
        out.write(b"(" + _text("storage") + kind + _text(str(index)) + _text("cpu") + _integer(count) + b"tQ")
        out.write(_integer(0) + _tuple(tensor.shape) + _tuple(row_major(tensor.shape)) + b"\x89")
        out.write(b"ccollections\nOrderedDict\n)RtR")
    out.write(b"u" + (b"s" if entry is not None else b"") + b".")
    return out.getvalue()


def _text(text: str) -> bytes:
    content = text.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def _integer(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def _tuple(values: Iterable[int]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
