"""Threads in place of workers, since they share memory."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import sleep

import numpy as np
import pytest

from latte_cli.core.kernels.barrier import open_barrier
from latte_cli.core.kernels.selection import force_kernels

WORKERS, ROUNDS = 3, 200


@pytest.mark.parametrize("first", [0, 2**32 - 5])  # the count wraps around
def test_no_thread_continues_before_all_have_arrived(first: int) -> None:
    count, board = np.array([first], np.uint32), np.zeros(WORKERS, np.int64)
    opened = Barrier(WORKERS, timeout=20)

    def work(rank: int) -> int:
        meet = open_barrier(count, WORKERS)
        assert meet is not None, "no compiler: the kernels could not be built"
        opened.wait()
        seen = 0
        for turn in range(1, ROUNDS + 1):
            if turn % 50 == rank:
                sleep(0.02)
            board[rank] = turn
            meet()
            seen += int((board >= turn).sum())
            meet()
        return seen

    with ThreadPoolExecutor(WORKERS) as pool:
        assert list(pool.map(work, range(WORKERS))) == [WORKERS * ROUNDS] * WORKERS


def test_without_compiled_kernels_there_is_no_barrier() -> None:
    force_kernels(False)
    try:
        assert open_barrier(np.zeros(1, np.uint32), WORKERS) is None
    finally:
        force_kernels(None)
