"""Read PyTorch files without PyTorch: the zip format since 1.6, and the older one.

The pickle is read as a description (see `pickles` for why this is safe); numbers are mapped from the file on
demand. The size of each storage is checked against the file before a tensor refers to it.
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

# torch/serialization.py: the pickled integers at the beginning of an old file.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MAGIC_PICKLE_SIZE = 24


@dataclass
class TorchFile:
    """The contents of a file's pickle, and the storages for its tensors."""

    content: object
    storages: dict[str, Storage]

    def tensor(self, claim: TensorClaim) -> StoredTensor:
        """The tensor that a claim describes. Raises RefusedError if it does not fit into its storage."""
        storage = self.storages[claim.storage.key]
        available = storage.nbytes // claim.dtype.bits.itemsize
        check_extent(claim.shape, claim.strides, claim.offset, available=available)
        return StoredTensor(claim.dtype, claim.shape, storage, claim.offset, claim.strides)


def read_zip(path: Path, mapped: memoryview) -> TorchFile:
    """Read a file in PyTorch's zip format.

    Raises RefusedError if it has another format, is damaged, or contains more than weights need.
    """
    return _read_members(path, mapped, read_directory(mapped), TABLE)


def read_script(path: Path, mapped: memoryview) -> dict[str, StoredTensor]:
    """The tensors of a TorchScript program, by path and in its order.

    Its code is ignored. Raises RefusedError like `read_zip`.
    """
    members = read_directory(mapped, skip="/code/")
    if not any(name.endswith("/constants.pkl") for name in members):
        raise RefusedError("is not a TorchScript program: its zip has no constants.pkl")
    weights = {name: member for name, member in members.items() if not name.endswith("/constants.pkl")}
    file = _read_members(path, mapped, weights, _ScriptNames())
    return {
        name: file.tensor(claim) for name, claim in leaves(file.content) if isinstance(claim, TensorClaim)
    }


class _ScriptNames:
    """The names that a program's pickle may use: those of weights, and its own classes, as inert records."""

    def get(self, name: str, /) -> Known | None:
        """The entry of a name, or None if it must not be used."""
        if name.startswith(("__torch__.", "torch.jit._pickle.")):
            return Known(name, lambda arguments: Described(name, arguments))
        return TABLE.get(name)


def _read_members(path: Path, mapped: memoryview, members: dict[str, Member], table: Table) -> TorchFile:
    prefix, pickled = _find_pickle(members)
    order = members.get(f"{prefix}byteorder")
    if order and bytes(mapped[order.start : order.end][:16]) != b"little":
        raise RefusedError("its numbers are big-endian; save it again on a little-endian machine")
    pickle_bytes = Storage(path, "data.pkl", mapped, [pickled[:2]], pickled.crc).bytes()
    claims = Claims()
    content, _ = read_pickle(pickle_bytes, 0, table=table, persistent=claims)
    storages = {}
    for claim in claims.by_key.values():
        label = f"data/{claim.key}"
        member = members.get(f"{prefix}{label}")
        if member is None:
            raise RefusedError(f"its zip has no member {shown(label)}, which its pickle refers to")
        if member.end - member.start != claim.nbytes:
            found = member.end - member.start
            raise RefusedError(f"{shown(label)} has {found} bytes, its pickle claims {claim.nbytes}")
        storages[claim.key] = Storage(path, label, mapped, [member[:2]], member.crc)
    return TorchFile(content, storages)


def _find_pickle(members: dict[str, Member]) -> tuple[str, Member]:
    """The folder of all members, with its slash, and the pickle in it."""
    prefix = next(iter(members), "").partition("/")[0] + "/"
    outside = [name for name in members if not name.startswith(prefix) or ".." in name.split("/")]
    if prefix == "/" or outside:
        found = shown(next(iter(outside), "no folder"))
        raise RefusedError(f"is not a PyTorch file: its zip contains {found}")
    if f"{prefix}constants.pkl" in members or f"{prefix}data.pkl" not in members:
        found = "a TorchScript program" if f"{prefix}constants.pkl" in members else "no data.pkl"
        raise RefusedError(f"is not a weights file: its zip contains {found}")
    return prefix, members[f"{prefix}data.pkl"]


def looks_old(mapped: memoryview) -> bool:
    """Whether a file starts like the format before 1.6: the magic number, pickled with any protocol."""
    start = bytes(mapped[:_MAGIC_PICKLE_SIZE])
    return start[:1] == b"\x80" and _MAGIC.to_bytes(10, "little") in start


def read_old(path: Path, mapped: memoryview) -> TorchFile:
    """Read a file in the format before 1.6: pickles, then each storage's length and bytes.

    Raises RefusedError like `read_zip`.
    """
    at = 0
    parts: list[Any] = []
    claims = Claims()
    for _ in range(5):  # magic number, protocol, machine, content, the storages' keys
        part, at = read_pickle(mapped, at, table=TABLE, persistent=claims)
        parts.append(part)
    magic, protocol, machine, content, keys = parts
    if magic != _MAGIC or protocol != _PROTOCOL or not isinstance(machine, dict):
        raise RefusedError("is not a supported PyTorch file: it has an unknown beginning")
    if machine.get("little_endian") is not True:
        raise RefusedError("its numbers are big-endian; save it again on a little-endian machine")
    if type(keys) is not list or len(keys) > MAX_TENSORS or not all(type(key) is str for key in keys):
        raise RefusedError("its list of storages is malformed")
    if len(set(keys)) != len(keys) or set(keys) != claims.by_key.keys():
        raise RefusedError("its list of storages does not match its pickle")
    storages = {}
    for key in keys:
        claim = claims.by_key[key]
        start = at + 8
        at = start + claim.nbytes
        if at > len(mapped):
            raise RefusedError(f"is truncated: {len(mapped)} bytes, storage {shown(key)} alone ends at {at}")
        if struct.unpack("<q", mapped[start - 8 : start])[0] != claim.count:
            raise RefusedError(f"the length of storage {shown(key)} does not match its pickle")
        storages[key] = Storage(path, f"storage {key}", mapped, [(start, at)])
    if at != len(mapped):
        raise RefusedError("contains more bytes than its storages: it is damaged or joined to another file")
    return TorchFile(content, storages)
