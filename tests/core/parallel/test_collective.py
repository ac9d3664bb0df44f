"""Collective operations of one worker; the test adds the values of the others."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.parallel.collective import Collective
from latte_cli.core.parallel.world import World

TOKEN = 0xFFFF_8001_0000_ABCD  # more digits than float32 has


def test_a_broadcast_number_is_exact() -> None:
    sent: list[NDArray[np.float32]] = []

    def send(arrays: Sequence[NDArray[np.float32]]) -> None:
        sent.extend(array.copy() for array in arrays)

    def receive(arrays: Sequence[NDArray[np.float32]]) -> None:
        for array, others in zip(arrays, sent, strict=True):
            np.add(array, others, out=array)

    assert Collective(World(0, 2), send).broadcast(TOKEN) == TOKEN
    assert Collective(World(1, 2), receive).broadcast(12345) == TOKEN


def test_a_single_worker_keeps_its_number() -> None:
    assert Collective(World(), lambda _: None).broadcast(TOKEN) == TOKEN
