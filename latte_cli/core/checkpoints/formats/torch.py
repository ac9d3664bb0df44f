"""PyTorch files without PyTorch: the zip format since 1.6, and the plain one before it.

The pickle only describes (see `pickles` for why reading it is safe); the numbers are mapped from the file
when asked for. What a storage claims is compared with the bytes that are there before any tensor over it
exists.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latte_cli.core.checkpoints.formats.pickles import Described, Known, Table, read_pickle
from latte_cli.core.checkpoints.formats.torch_names import TABLE, Claims, TensorClaim
from latte_cli.core.checkpoints.formats.trees import leaves
from latte_cli.core.checkpoints.formats.zip_directory import Member, read_directory
from latte_cli.core.checkpoints.limits import MAX_TENSORS, RefusedError, shown
from latte_cli.core.checkpoints.tensors import Storage, StoredTensor, check_extent

# torch/serialization.py: what an old file starts with, as pickled integers.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MAGIC_PICKLE_SIZE = 24


@dataclass
class TorchFile:
    """What a file's pickle holds, with a way to make tensors of its claims."""

    content: object
    storages: dict[str, Storage]

    def tensor(self, claim: TensorClaim) -> StoredTensor:
        """The tensor that a claim describes. Raises RefusedError when its storage does not bear it."""
        storage = self.storages[claim.storage.key]
        available = storage.nbytes // claim.dtype.bits.itemsize
        check_extent(claim.shape, claim.strides, claim.offset, available=available)
        return StoredTensor(claim.dtype, claim.shape, storage, claim.offset, claim.strides)


def read_zip(path: Path, mapped: memoryview) -> TorchFile:
    """A file of PyTorch's zip format.

    Raises RefusedError when it is none, is torn, or asks for more than weights need.
    """
    return _read_members(path, mapped, read_directory(mapped), TABLE)


def read_script(path: Path, mapped: memoryview) -> dict[str, StoredTensor]:
    """The tensors of a TorchScript program, by their places in it and in its order.

    Its code is not looked at. Raises RefusedError as `read_zip`.
    """
    members = read_directory(mapped, pass_over="/code/")
    if not any(name.endswith("/constants.pkl") for name in members):
        raise RefusedError("is no TorchScript program: its zip holds no constants.pkl")
    weights = {name: member for name, member in members.items() if not name.endswith("/constants.pkl")}
    file = _read_members(path, mapped, weights, _ScriptNames())
    return {
        name: file.tensor(claim) for name, claim in leaves(file.content) if isinstance(claim, TensorClaim)
    }


class _ScriptNames:
    """The names of a program's pickle: those of weights, and its own classes, of which no code is run."""

    def get(self, name: str, /) -> Known | None:
        """What a name stands for, if it may be used."""
        if name.startswith(("__torch__.", "torch.jit._pickle.")):
            return Known(name, lambda arguments: Described(name, arguments))
        return TABLE.get(name)


def _read_members(path: Path, mapped: memoryview, members: dict[str, Member], table: Table) -> TorchFile:
    prefix, pickled = _find_pickle(members)
    order = members.get(f"{prefix}byteorder")
    if order and bytes(mapped[order.start : order.end][:16]) != b"little":
        raise RefusedError("its numbers are big-endian; save it anew on a little-endian machine")
    pickle_bytes = Storage(path, "data.pkl", mapped, [pickled[:2]], pickled.crc).bytes()
    claims = Claims()
    content, _ = read_pickle(pickle_bytes, 0, table=table, persistent=claims)
    storages = {}
    for claim in claims.by_key.values():
        label = f"data/{claim.key}"
        member = members.get(f"{prefix}{label}")
        if member is None:
            raise RefusedError(f"its zip has no member {shown(label)}, which its pickle points to")
        if member.end - member.start != claim.nbytes:
            found = member.end - member.start
            raise RefusedError(f"{shown(label)} holds {found} bytes, its pickle claims {claim.nbytes}")
        storages[claim.key] = Storage(path, label, mapped, [member[:2]], member.crc)
    return TorchFile(content, storages)


def _find_pickle(members: dict[str, Member]) -> tuple[str, Member]:
    """The folder that all members are in, with its slash, and the pickle in it."""
    prefix = next(iter(members), "").partition("/")[0] + "/"
    outside = [name for name in members if not name.startswith(prefix) or ".." in name.split("/")]
    if prefix == "/" or outside:
        raise RefusedError(f"is no PyTorch file: its zip holds {shown(next(iter(outside), 'no folder'))}")
    if f"{prefix}constants.pkl" in members or f"{prefix}data.pkl" not in members:
        found = "a TorchScript program" if f"{prefix}constants.pkl" in members else "no data.pkl"
        raise RefusedError(f"is no file of weights: its zip holds {found}")
    return prefix, members[f"{prefix}data.pkl"]


def looks_old(mapped: memoryview) -> bool:
    """Whether a file starts as the format before 1.6 does: the magic number, pickled by any protocol."""
    start = bytes(mapped[:_MAGIC_PICKLE_SIZE])
    return start[:1] == b"\x80" and _MAGIC.to_bytes(10, "little") in start


def read_old(path: Path, mapped: memoryview) -> TorchFile:
    """A file of the format before 1.6: pickles, then each storage's length and bytes.

    Raises RefusedError as `read_zip`.
    """
    at = 0
    parts: list[Any] = []
    claims = Claims()
    for _ in range(5):  # magic number, protocol, machine, content, the storages' keys
        part, at = read_pickle(mapped, at, table=TABLE, persistent=claims)
        parts.append(part)
    magic, protocol, machine, content, keys = parts
    if magic != _MAGIC or protocol != _PROTOCOL or not isinstance(machine, dict):
        raise RefusedError("is no PyTorch file that this reads: its first words are unknown")
    if machine.get("little_endian") is not True:
        raise RefusedError("its numbers are big-endian; save it anew on a little-endian machine")
    if type(keys) is not list or len(keys) > MAX_TENSORS or not all(type(key) is str for key in keys):
        raise RefusedError("its list of storages is malformed")
    if len(set(keys)) != len(keys) or set(keys) != claims.by_key.keys():
        raise RefusedError("its list of storages is not the one its pickle points to")
    storages = {}
    for key in keys:
        claim = claims.by_key[key]
        start = at + 8
        at = start + claim.nbytes
        if at > len(mapped):
            raise RefusedError(f"is cut short: {len(mapped)} bytes, storage {shown(key)} alone ends at {at}")
        if struct.unpack("<q", mapped[start - 8 : start])[0] != claim.count:
            raise RefusedError(f"storage {shown(key)} has another length than its pickle claims")
        storages[key] = Storage(path, f"storage {key}", mapped, [(start, at)])
    if at != len(mapped):
        raise RefusedError("holds more bytes than its storages need: it is damaged or joined to another file")
    return TorchFile(content, storages)
