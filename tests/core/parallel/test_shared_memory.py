"""Threads in place of workers, with a barrier in place of MindSpore's AllReduce."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.parallel import shared_memory
from latte_cli.core.parallel.world import World

WORKERS = 3


def meet(act: Callable[[World, shared_memory.Total], object]) -> list[object]:
    """The result of each worker, called with its rank and a sum over all workers without shared memory."""
    barrier, board = Barrier(WORKERS, timeout=20), np.zeros((WORKERS, 16), np.float32)

    def work(rank: int) -> object:
        def through(arrays: Sequence[NDArray[np.float32]]) -> None:
            (numbers,) = arrays
            board[rank, : numbers.size] = numbers
            barrier.wait()
            sums = board[:, : numbers.size].sum(axis=0)
            barrier.wait()
            numbers[:] = sums

        return act(World(rank, WORKERS), through)

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(work, range(WORKERS)))


@pytest.mark.slow
def test_sums_are_added_in_the_order_of_ranks_and_equal_on_all_workers() -> None:
    own = [
        [np.random.default_rng((rank, turn)).standard_normal(1000).astype(np.float32) for turn in range(5)]
        for rank in range(WORKERS)
    ]

    def act(world: World, through: shared_memory.Total) -> object:
        opened = shared_memory.open_total(world, through)
        assert opened is not None
        total, chunk = opened
        assert chunk >= 1000
        mine = [numbers.copy() for numbers in own[world.rank]]
        for numbers in mine:
            total([numbers[:300], numbers[300:]])
        return mine

    for sums in meet(act):
        for turn, found in enumerate(sums):  # type: ignore[arg-type]
            assert np.array_equal(found, own[0][turn] + own[1][turn] + own[2][turn])


def test_no_file_is_left_and_workers_with_separate_memory_are_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    assert all(meet(shared_memory.open_total))
    assert list(tmp_path.iterdir()) == []

    seen = shared_memory._path
    calls: list[int] = []

    def sees_elsewhere(parts: NDArray[np.float32]) -> Path:
        calls.append(1)
        return seen(parts) if len(calls) != 3 else tmp_path / "elsewhere"

    monkeypatch.setattr(shared_memory, "_path", sees_elsewhere)
    assert meet(shared_memory.open_total) == [None] * WORKERS
    assert list(tmp_path.iterdir()) == []


def test_without_enough_space_memory_is_not_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path / "absent")
    assert meet(shared_memory.open_total) == [None] * WORKERS


def test_with_less_shared_memory_smaller_pieces_are_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def fallocate(descriptor: int, offset: int, size: int) -> None:
        asked.append(size)
        if len(asked) < 3:
            raise OSError("No space left on device")
        reserve(descriptor, offset, size)

    reserve = shared_memory.os.posix_fallocate
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    monkeypatch.setattr(shared_memory.os, "posix_fallocate", fallocate)
    chunks = {opened[1] for opened in meet(shared_memory.open_total)}  # type: ignore[index]
    assert chunks == {8 * 2**20 // 4}
    numbers = [4 * 2 * WORKERS * (8 * 2**20 >> halvings) for halvings in range(3)]
    assert asked == [shared_memory.COUNT_BYTES + size for size in numbers]
