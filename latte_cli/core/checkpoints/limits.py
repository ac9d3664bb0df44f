"""Limits for untrusted files, and how text from them is shown in messages.

Every limit is far above what a published checkpoint needs (Latte-XL/2 with its optimizer: 1,500 tensors, a
150 KB pickle, 70,000 pickle steps) and low enough that a hostile file is rejected within seconds and a few
hundred megabytes.
"""

MAX_TENSORS = 100_000
"""Tensors, storages or zip members in one file."""
MAX_PICKLE_BYTES = 64 << 20
"""Length of a pickle."""
MAX_PICKLE_STEPS = 500_000
"""Total of a pickle's instructions and the entries they move; limits both time and memory."""
MAX_HEADER_BYTES = 8 << 20
"""Bytes of JSON in a safetensors header or shard index; parsing may take 40 times this in memory."""
MAX_DIMENSIONS = 32
"""Axes of a tensor; NumPy's limit."""
MAX_INTEGER_BYTES = 16
"""Length of an integer in a pickle: PyTorch's have 64 bits, its magic number 80."""
MAX_NAME_BYTES = 1024
"""Length of a tensor's name."""
MAX_REPEATED_ELEMENTS = 1 << 20
"""Elements that a tensor with stride 0 may have beyond those of its storage."""
MAX_OVERLAP_BYTES = 64 << 20
"""Bytes that tensors sharing storages may have in total beyond twice the file's size."""

_SHOWN = 80


class RefusedError(Exception):
    """The reason why a file is rejected, without its name; callers that know it raise a LatteError."""


def shown(text: object) -> str:
    """Text from a file for a one-line message: shortened, control characters escaped."""
    plain = text if isinstance(text, str) else type(text).__name__
    short = plain if len(plain) <= _SHOWN else plain[: _SHOWN - 3] + "..."
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in short)


def several(names: list[str]) -> str:
    """Up to three of the names, and the number of others."""
    listed = ", ".join(shown(name) for name in names[:3])
    return listed if len(names) <= 3 else f"{listed} and {len(names) - 3} more"
