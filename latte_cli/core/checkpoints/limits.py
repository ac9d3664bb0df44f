"""Bounds on what an untrusted file may ask for, and how its words are shown.

A file is data from a stranger. Every bound here is far above what a published checkpoint needs (Latte-XL/2
with its optimizer: 1,500 tensors, a 150 KB pickle, 70,000 pickle steps) and low enough that a hostile file is
refused within seconds and a few hundred megabytes.
"""

MAX_TENSORS = 100_000
"""Tensors, storages or zip members in one file."""
MAX_PICKLE_BYTES = 64 << 20
"""Length of a pickle."""
MAX_PICKLE_STEPS = 500_000
"""Instructions of a pickle, and entries they move at one go, added up: bounds time and memory both."""
MAX_HEADER_BYTES = 8 << 20
"""JSON of a safetensors header or a shard index: every byte of it may cost forty in memory."""
MAX_DIMENSIONS = 32
"""Axes of a tensor; numpy has no more."""
MAX_INTEGER_BYTES = 16
"""Length of an integer in a pickle: PyTorch's own are 64 bits, its magic number 80."""
MAX_NAME_BYTES = 1024
"""Length of a tensor's name."""
MAX_REPEATED_ELEMENTS = 1 << 20
"""A tensor may show more elements than its storage holds (stride 0) up to this many."""
MAX_OVERLAP_BYTES = 64 << 20
"""Tensors together may come to twice the file and this much more, where they share storages."""

_SHOWN = 80


class RefusedError(Exception):
    """Why a file cannot be used, without its name: whoever knows the name turns this into a LatteError."""


def shown(text: object) -> str:
    """A file's own words made fit for one line of an error: short, control characters escaped."""
    plain = text if isinstance(text, str) else type(text).__name__
    short = plain if len(plain) <= _SHOWN else plain[: _SHOWN - 3] + "..."
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in short)


def several(names: list[str]) -> str:
    """Up to three of the names, and how many more there are."""
    listed = ", ".join(shown(name) for name in names[:3])
    return listed if len(names) <= 3 else f"{listed} and {len(names) - 3} more"
