"""Sums over the workers of one machine through memory they share.

MindSpore's CPU collectives send everything through local sockets, at about 40 ns of processor time a number
and some milliseconds a call.
"""

import mmap
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.parallel.world import World

FOLDER = Path("/dev/shm")  # memory, where Linux has it
NAME_PARTS, PART_BITS = 4, 24  # a random name, in numbers that float32 holds exactly
MOST_HALVINGS = 6  # of what is asked for, until it fits: containers often have 64 MiB
COUNT_BYTES = 4096  # before the numbers: a page for the count at which workers meet

Reals = NDArray[np.float32]
Total = Callable[[Sequence[Reals]], None]


def open_total(world: World, through: Total) -> tuple[Total, int] | None:
    """What replaces numbers by their sums over all workers, added by rank, and how many it takes at once.

    through: the same by other means, for a few numbers. None unless every worker sees the same memory and it
    has room. To be called by all workers.
    """
    made = _create(world.size) if world.rank == 0 else None
    told = np.array([*made.parts, made.halvings] if made else [0] * (NAME_PARTS + 1), np.float32)
    through([told])
    chunk = _most(world.size) >> int(told[-1])
    shared = None
    with suppress(OSError), _path(told[:-1]).open("r+b") as file:
        shared = mmap.mmap(file.fileno(), _bytes(world.size, chunk))
    barrier = None if shared is None else _open_barrier(shared, world.size)
    ready = np.array([shared is not None, barrier is not None], np.float32)
    through([ready])
    if made:
        _path(np.array(made.parts)).unlink()  # the memory stays until the last worker has ended
    if shared is None or ready[0] != world.size:
        return None
    meet = (
        barrier
        if barrier is not None and ready[1] == world.size
        else lambda: through([np.zeros(1, np.float32)])
    )
    # Two halves in turn: nobody writes to one again before all have met once more, hence read it.
    halves = np.frombuffer(shared, np.float32, offset=COUNT_BYTES).reshape(2, world.size, chunk)
    turn = 0

    def total(arrays: Sequence[Reals]) -> None:
        nonlocal turn
        half, turn = halves[turn], 1 - turn
        places = [slice(*ends) for ends in pairwise(accumulate((one.size for one in arrays), initial=0))]
        for array, place in zip(arrays, places, strict=True):
            half[world.rank, place] = array
        meet()
        for array, place in zip(arrays, places, strict=True):
            np.add.reduce(half[:, place], axis=0, out=array)

    return total, chunk


def _open_barrier(shared: mmap.mmap, workers: int) -> Callable[[], None] | None:
    from latte_cli.core.kernels.barrier import open_barrier

    return open_barrier(np.frombuffer(shared, np.uint32, count=1), workers)


class _Made(NamedTuple):
    """A file of shared memory: the parts of its random name, and how often its size was halved to fit."""

    parts: list[int]
    halvings: int


def _create(workers: int) -> _Made | None:
    """A file with all its memory reserved; None if there is no room."""
    parts = [int.from_bytes(os.urandom(PART_BITS // 8), "big") for _ in range(NAME_PARTS)]
    path = _path(np.array(parts))
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return None
    try:
        for halvings in range(MOST_HALVINGS):
            with suppress(OSError):  # too large. Unreserved, a full folder would be a SIGBUS later
                os.posix_fallocate(descriptor, 0, _bytes(workers, _most(workers) >> halvings))
                return _Made(parts, halvings)
    finally:
        os.close(descriptor)
    path.unlink()
    return None


def _most(workers: int) -> int:
    """Numbers at once: 8 M, fewer if there are many workers."""
    return min(8 * 2**20, 2**25 // workers)


def _bytes(workers: int, chunk: int) -> int:
    return COUNT_BYTES + 4 * 2 * workers * chunk


def _path(parts: NDArray[Any]) -> Path:
    return FOLDER / ("latte-" + "".join(f"{int(part):06x}" for part in parts))
