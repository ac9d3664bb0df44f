"""Collective operations of the workers: averages of gradients and numbers, bit-identical in all workers.

On a CPU MindSpore supports AllReduce, as a sum in float32 and float16, Broadcast and AllGather; other
reductions and ReduceScatter fail.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.errors import LatteError
from latte_cli.core.parallel import scheduler, shared_memory
from latte_cli.core.parallel.shutdown import note_meeting
from latte_cli.core.parallel.worker import CORES
from latte_cli.core.parallel.world import World

SECONDS_TO_WAIT = 7 * 24 * 3600  # for the last worker to reach a sum, on a CPU
CHUNK = 8 * 2**20  # numbers that MindSpore sums at a time, which keeps buffers small: 32 MiB

Reals = NDArray[np.float32]


class Collective:
    """The collective operations of a run's workers; no-ops for a single worker.

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
        """Use `join`. total: replaces up to `chunk` numbers with their sums over all workers."""
        self.world = world
        self._total = total
        self._chunk = chunk
        self._on_device = on_device

    def average(self, arrays: Sequence[Reals]) -> None:
        """Replace contiguous arrays, in place, with their means over the workers."""
        if self.world.size == 1:
            return
        for pieces in _cut([array.reshape(-1) for array in arrays], self._chunk):
            self._total(pieces)
        for array in arrays:
            np.divide(array, self.world.size, out=array)

    def means_in_graph(self) -> Callable[[Any], Any] | None:
        """A function for compiled graphs: the means of tensors over the workers. None if there is one worker.

        The tensors are exchanged from the last to the first, which is the order of a backward pass. Each
        waits for the one before: workers whose graphs differ would otherwise exchange them in other orders.
        """
        if self.world.size == 1:
            return None
        from mindspore import ops

        reduce, size = _all_reduce(), self.world.size

        def means_of(tensors):  # type: ignore[no-untyped-def]
            total = reduce(tensors[-1])
            means = [total / size]
            for place in range(2, len(tensors) + 1):
                total = reduce(ops.depend(tensors[-place], total))
                means.append(total / size)
            return means[::-1]

        return means_of

    def send(self, values: Sequence[Any], owners: Sequence[int]) -> None:
        """Replace float32 parameters or arrays, in place, with those of the workers of rank `owners`."""
        if self.world.size == 1:
            return
        if self._on_device:
            for value, owner in zip(values, owners, strict=True):
                _replace(value, _broadcast(owner)((_as_tensor(value),))[0])
            return
        arrays = [value if isinstance(value, np.ndarray) else _own_numbers(value) for value in values]
        for array, owner in zip(arrays, owners, strict=True):
            if owner != self.world.rank:
                array[...] = 0  # only the owner adds to the sum
        for pieces in _cut([array.reshape(-1) for array in arrays], self._chunk):
            self._total(pieces)
        for value, array in zip(values, arrays, strict=True):
            if value is not array and not _is_own(value, array):
                _replace(value, _as_tensor(array))

    def send_in_graph(self, owners: Sequence[int]) -> list[Callable[[Any, Any], Any]]:
        """`send` as functions for compiled graphs, each for a parameter of one of the `owners`.

        Each takes what the one before has returned, which fixes their order in all workers.
        """
        return [_sender(owner) for owner in owners]

    def mean(self, values: Sequence[float]) -> tuple[float, ...]:
        """Each number's mean over the workers, in float32 for several workers."""
        if self.world.size == 1:
            return tuple(values)
        numbers = np.array(values, np.float32)
        self.average([numbers])
        return tuple(numbers.tolist())

    def anywhere(self, fact: bool) -> bool:
        """Whether `fact` is true for any worker, for example to stop all of them at the same step."""
        return self.mean([float(fact)])[0] > 0

    def broadcast(self, value: int) -> int:
        """The first worker's value, at least 0, in all of them; sent in parts that float32 holds exactly."""
        mine = value if self.world.is_first else 0
        parts = np.array([mine >> shift & 0xFFFF for shift in (0, 16, 32, 48)], np.float32)
        self._total([parts])
        return sum(int(part) << shift for part, shift in zip(parts, (0, 16, 32, 48), strict=True))

    def barrier(self) -> None:
        """Wait for all workers."""
        self.anywhere(False)


def join(world: World) -> Collective:
    """Initialise communication with the other workers on MindSpore's device; waits for all of them.

    Not for msrun's scheduler, which calls `scheduler.serve`. Raises LatteError if they do not meet.
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
        # By default a sum fails 30 s after the first worker reaches it. A worker may be hours behind, writing
        # or encoding; dead workers are detected by the launcher and by MindSpore's heartbeats.
        os.environ.setdefault("MS_CPU_COMM_OP_TIMEOUT", str(SECONDS_TO_WAIT))
    try:
        with _all_cores():
            communication.init()
    except RuntimeError as error:
        reason = next(line for line in str(error).splitlines() if line.strip())
        raise LatteError(
            f"{world.launcher}: worker {world.rank} could not connect to the others: {reason}"
        ) from error
    found = World(communication.get_rank(), communication.get_group_size(), world.local_rank, world.launcher)
    if found != world:
        raise LatteError(
            f"{world.launcher}: found worker {found.rank} of {found.size}, but the environment has"
            f" {world.rank} of {world.size}"
        )
    if not on_cpu:
        return Collective(world, _sum_on_host, on_device=True)
    note_meeting()
    total, chunk = shared_memory.open_total(world, _sum_on_host) or (_sum_on_host, CHUNK)
    return Collective(world, total, chunk=chunk)


@contextmanager
def _all_cores() -> Iterator[None]:
    """Temporarily use all cores of the launcher's workers, each of which is bound to a share.

    On a single core, MindSpore's thread that receives a connection may run before the one that made it has
    registered it; the connection is then dropped and retried ten times and more.
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
    """Views of at most `most` numbers of flat arrays, in order."""
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
    """A tensor's numbers as contiguous float32: a view if its memory is writable, else a copy."""
    array = tensor.asnumpy()
    if _is_own(tensor, array) and array.flags.writeable and array.flags.c_contiguous:
        return array
    return np.array(array, np.float32, order="C")


def _is_own(tensor: Any, array: NDArray[Any]) -> bool:
    return array.dtype == np.float32 and bool(array.ctypes.data == tensor.data_ptr())


@cache
def _all_reduce() -> Any:
    """MindSpore's sum over all workers; created once, which costs more than a small sum."""
    from mindspore import ops

    return ops.AllReduce()


@cache
def _broadcast(root: int) -> Any:
    """MindSpore's copy of the worker `root` for all workers."""
    from mindspore import ops

    return ops.Broadcast(root)


def _sender(owner: int) -> Callable[[Any, Any], Any]:
    """A function for compiled graphs that replaces a parameter with that of `owner`, after `earlier`."""
    from mindspore import ops

    broadcast = _broadcast(owner)

    def send(parameter, earlier):  # type: ignore[no-untyped-def]
        sent = broadcast((ops.depend(parameter * 1.0, earlier),))[0]
        ops.assign(parameter, sent)
        return sent

    return send


def _as_tensor(value: Any) -> Any:
    from mindspore import Tensor

    return Tensor(value) if isinstance(value, np.ndarray) else value


def _replace(value: Any, tensor: Any) -> None:
    """Set a parameter or an array to the values of a tensor."""
    from mindspore import ops

    if isinstance(value, np.ndarray):
        value[...] = tensor.asnumpy()
    else:
        ops.assign(value, tensor)


def _sum_on_host(arrays: Sequence[Reals]) -> None:
    """Replace numbers with their sums over all workers, computed by MindSpore."""
    from mindspore import Tensor

    sums = _all_reduce()(Tensor(np.concatenate(arrays))).asnumpy()
    ends = np.cumsum([array.size for array in arrays])
    for array, part in zip(arrays, np.split(sums, ends[:-1]), strict=True):
        array[:] = part
