"""What the workers compute together: averages of gradients and of numbers, the same bits in all of them.

MindSpore's CPU has AllReduce as a sum in float32 and float16; Barrier, other types and reductions fail.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.errors import LatteError
from latte_cli.core.parallel import scheduler, shared_memory
from latte_cli.core.parallel.leaving import note_meeting
from latte_cli.core.parallel.worker import CORES
from latte_cli.core.parallel.world import World

SECONDS_TO_WAIT = 7 * 24 * 3600  # for the last worker to come to a sum, on a CPU
CHUNK = 8 * 2**20  # numbers that MindSpore sums at once, so that buffers stay small: 32 MiB

Reals = NDArray[np.float32]


class Collective:
    """The workers of a run, seen from one of them. With a single one, nothing is computed or sent.

    Every method must be called by all workers, in the same order.
    """

    def __init__(
        self,
        world: World,
        total: shared_memory.Total,
        *,
        chunk: int = CHUNK,
        on_device: bool = False,
    ):
        """Use `join`. total: replaces numbers, `chunk` at most, by their sums over all workers."""
        self.world = world
        self._total = total
        self._chunk = chunk
        self._on_device = on_device

    def average(self, tensors: Sequence[Any]) -> tuple[Any, ...]:
        """Each tensor's mean over the workers, in its own shape and dtype; not for use inside ms.jit.

        On a CPU in the memory of `tensors`, where that can be written.
        """
        if self.world.size == 1:
            return tuple(tensors)
        if self._on_device:
            return tuple(_all_reduce()(tensor) / self.world.size for tensor in tensors)
        arrays = [_own_numbers(tensor) for tensor in tensors]
        for pieces in _cut([array.reshape(-1) for array in arrays], self._chunk):
            self._total(pieces)
        for array in arrays:
            np.divide(array, self.world.size, out=array)
        return tuple(_with_numbers(tensor, array) for tensor, array in zip(tensors, arrays, strict=True))

    def mean(self, values: Sequence[float]) -> tuple[float, ...]:
        """Each number's mean over the workers, in float32 if there are several."""
        if self.world.size == 1:
            return tuple(values)
        numbers = np.array(values, np.float32)
        self._total([numbers])
        return tuple(float(number) for number in numbers / np.float32(self.world.size))

    def anywhere(self, fact: bool) -> bool:
        """Whether it is a fact for any worker: to stop, say, all at the same step."""
        return self.mean([float(fact)])[0] > 0

    def broadcast(self, value: int) -> int:
        """The first worker's value, at least 0, in all of them; sent in parts that float32 holds exactly."""
        mine = value if self.world.is_first else 0
        parts = np.array([mine >> shift & 0xFFFF for shift in (0, 16, 32, 48)], np.float32)
        self._total([parts])
        return sum(int(part) << shift for part, shift in zip(parts, (0, 16, 32, 48), strict=True))

    def barrier(self) -> None:
        """Return once all workers are here."""
        self.anywhere(False)


def join(world: World) -> Collective:
    """Meet the other workers, on the device that MindSpore was set to; returns once all are there.

    Not for msrun's scheduler, which calls `scheduler.serve`. Raises LatteError when they do not meet.
    """
    if world.size == 1:
        return Collective(world, lambda _: None)
    import mindspore as ms
    from mindspore import communication

    on_cpu = ms.get_context("device_target") == "CPU"
    if on_cpu and world.launcher == "mpirun":
        scheduler.meet_under_mpirun(world)
    if on_cpu and world.launcher == "rank table":
        raise LatteError("RANK_TABLE_FILE: a rank table is for Ascend, expected msrun or mpirun on a CPU")
    if on_cpu:
        # A sum fails 30 s after the first worker is there. One may be hours behind, writing or encoding; dead
        # ones are noticed by whoever launched them, and by MindSpore's heartbeats.
        os.environ.setdefault("MS_CPU_COMM_OP_TIMEOUT", str(SECONDS_TO_WAIT))
    try:
        with _all_cores():
            communication.init()
    except RuntimeError as error:
        reason = next(line for line in str(error).splitlines() if line.strip())
        raise LatteError(
            f"{world.launcher}: worker {world.rank} could not meet the others: {reason}"
        ) from error
    found = World(communication.get_rank(), communication.get_group_size(), world.local_rank, world.launcher)
    if found != world:
        raise LatteError(
            f"{world.launcher}: found worker {found.rank} of {found.size}, the environment says"
            f" {world.rank} of {world.size}"
        )
    if not on_cpu:
        return Collective(world, _sum_on_host, on_device=True)
    note_meeting()
    total, chunk = shared_memory.open_total(world, _sum_on_host) or (_sum_on_host, CHUNK)
    return Collective(world, total, chunk=chunk)


@contextmanager
def _all_cores() -> Iterator[None]:
    """Run on all cores that the launcher gave its workers, of which each is bound to a share.

    On a single one, MindSpore's thread that hears of a connection is woken before the one that made it has
    noted it; the connection is then given up and tried again, ten times and more.
    """
    cores = os.environ.get(CORES)
    if not cores:
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, map(int, cores.split(",")))
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def _cut(arrays: Sequence[Reals], most: int) -> Iterator[list[Reals]]:
    """The numbers of flat arrays in turn, `most` at a time, as views."""
    pieces: list[Reals] = []
    room = most
    for array in arrays:
        start = 0
        while start < array.size:
            pieces.append(array[start : start + room])
            start += pieces[-1].size
            room -= pieces[-1].size
            if room == 0:
                yield pieces
                pieces, room = [], most
    if pieces:
        yield pieces


def _own_numbers(tensor: Any) -> Reals:
    """A tensor's numbers in its own memory where that can be written, else a copy; contiguous float32."""
    array = tensor.asnumpy()
    if _is_own(tensor, array) and array.flags.writeable and array.flags.c_contiguous:
        return array
    return np.array(array, np.float32, order="C")


def _with_numbers(tensor: Any, array: Reals) -> Any:
    """The tensor itself if the numbers are in its memory, else one of its type with them."""
    from mindspore import Tensor

    return tensor if _is_own(tensor, array) else Tensor(array).astype(tensor.dtype)


def _is_own(tensor: Any, array: NDArray[Any]) -> bool:
    return array.dtype == np.float32 and bool(array.ctypes.data == tensor.data_ptr())


@lru_cache(maxsize=1)
def _all_reduce() -> Any:
    """MindSpore's sum over all workers; made once, since making it costs more than a small sum."""
    from mindspore import ops

    return ops.AllReduce()


def _sum_on_host(arrays: Sequence[Reals]) -> None:
    """Replace numbers by their sums over all workers, by MindSpore."""
    from mindspore import Tensor

    sums = _all_reduce()(Tensor(np.concatenate(arrays))).asnumpy()
    ends = np.cumsum([array.size for array in arrays])
    for array, part in zip(arrays, np.split(sums, ends[:-1]), strict=True):
        array[:] = part
