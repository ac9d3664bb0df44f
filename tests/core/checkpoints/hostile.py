"""Files in PyTorch's formats, built byte by byte as an attacker would."""

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
DICT = b"ccollections\nOrderedDict\n)R"


def text(word: str) -> bytes:
    content = word.encode()
    return b"X" + struct.pack("<I", len(content)) + content


def integer(value: int) -> bytes:
    length = max(1, (value.bit_length() + 8) // 8)
    return b"\x8a" + bytes([length]) + value.to_bytes(length, "little", signed=True)


def sizes(*values: int) -> bytes:
    return b"(" + b"".join(map(integer, values)) + b"t"


def storage(key: str = "0", count: int = 4, kind: str = "FloatStorage") -> bytes:
    return (
        b"("
        + text("storage")
        + f"ctorch\n{kind}\n".encode()
        + text(key)
        + text("cpu")
        + integer(count)
        + b"tQ"
    )


def tensor(
    shape: tuple[int, ...] = (4,), strides: tuple[int, ...] = (1,), *, offset: int = 0, of: bytes = b""
) -> bytes:
    """Instructions that leave a tensor on the stack."""
    rest = integer(offset) + sizes(*shape) + sizes(*strides) + b"\x89" + DICT
    return TENSOR + b"(" + (of or storage()) + rest + b"tR"


def checkpoint(value: bytes, *, more: bytes = b"") -> bytes:
    """A pickle of {"ema": {"w": value}}, with more instructions for the outer dictionary."""
    return b"\x80\x02}(" + text("ema") + b"}" + text("w") + value + b"s" + more + b"u."


def zip_file(path: Path, pickled: bytes, members: Mapping[str, bytes] | None = None) -> Path:
    """A zip like PyTorch's around a pickle, with the storages given (by default one of four floats)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", b"little")
        for name, content in ({"data/0": bytes(16)} if members is None else members).items():
            archive.writestr(f"archive/{name}", content)
    return path


def old_file(path: Path, pickled: bytes, storages: Mapping[str, bytes], *, width: int = 4) -> Path:
    """A file of the format before 1.6 around a pickle."""
    out = io.BytesIO()
    out.write(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
    out.write(b"\x80\x02M\xe9\x03.")
    out.write(b"\x80\x02}" + text("little_endian") + b"\x88s.")
    out.write(pickled)
    out.write(b"\x80\x02](" + b"".join(map(text, storages)) + b"e.")
    for content in storages.values():
        out.write(struct.pack("<q", len(content) // width) + content)
    path.write_bytes(out.getvalue())
    return path
