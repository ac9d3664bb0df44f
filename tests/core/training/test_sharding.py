"""The optimizer's state divided among workers, which are threads in these tests."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any

import numpy as np
import pytest
from mindspore import Parameter, Tensor
from numpy.typing import NDArray

from latte_cli.core.arrays import Array
from latte_cli.core.checkpoints.layouts.latte import LatteDescription, latte_layout
from latte_cli.core.parallel.collective import Collective
from latte_cli.core.parallel.world import World
from latte_cli.core.training.optimizer import AdamW
from latte_cli.core.training.sharding import Part, ShardedAdamW, owners

SHAPES = [(3, 4), (5,), (2, 3, 2, 2), (7, 7), (1,)]
STEPS = 4
TABLES = ("pos_embed", "temp_embed")  # which are not trained


def parameters() -> list[Parameter]:
    random = np.random.default_rng(0)
    return [
        Parameter(Tensor(random.normal(size=shape).astype(np.float32)), name=f"p{place}")
        for place, shape in enumerate(SHAPES)
    ]


def gradients(step: int) -> list[Array]:
    random = np.random.default_rng(1 + step)
    return [random.normal(size=shape).astype(np.float32) for shape in SHAPES]


def step(optimizer: AdamW | ShardedAdamW, number: int) -> None:
    optimizer.apply(gradients(number), number, rate=1e-2, average=0.9, factor=0.5)


def sums(workers: int) -> Callable[[Sequence[NDArray[np.float32]]], None]:
    """A function that adds the arrays of all threads that call it."""
    meet, taken = threading.Barrier(workers, timeout=60), []

    def total(arrays: Sequence[NDArray[np.float32]]) -> None:
        taken.append([array.copy() for array in arrays])
        meet.wait()
        for place, array in enumerate(arrays):
            array[...] = sum(one[place] for one in taken)
        if meet.wait() == 0:
            taken.clear()
        meet.wait()

    return total


def together(workers: int, work: Callable[[Collective], Any]) -> list[Any]:
    """The results of `work` by this many workers at the same time."""
    total = sums(workers)
    collectives = [Collective(World(rank, workers), total, chunk=10) for rank in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, collectives))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_sharded_steps_have_the_bits_of_one_worker(workers: int) -> None:
    alone_parameters = parameters()
    alone = AdamW(alone_parameters, weight_decay=0.1)
    for number in range(STEPS):
        step(alone, number)

    def work(collective: Collective) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
        own = parameters()
        optimizer = ShardedAdamW(own, collective, weight_decay=0.1)
        averaged = optimizer.averaged(own)
        for number in range(STEPS):
            step(optimizer, number)
        optimizer.collect()
        gathered = {name: part.gather(collective) for name, part in optimizer.state().items()}
        weights = [parameter.asnumpy().copy() for parameter in own]
        return weights, {name: value.asnumpy().copy() for name, value in averaged.items()}, gathered

    for weights, averaged, gathered in together(workers, work):
        for found, expected in zip(weights, alone_parameters, strict=True):
            np.testing.assert_array_equal(found, expected.asnumpy())
        assert list(gathered) == list(alone.state())
        for name, expected in alone.state().items():
            np.testing.assert_array_equal(gathered[name], expected.asnumpy(), err_msg=name)
        for parameter, expected in zip(alone_parameters, alone.averages, strict=True):
            np.testing.assert_array_equal(averaged[parameter.name], expected.asnumpy())


def test_each_tensor_of_the_state_belongs_to_exactly_one_worker() -> None:
    states = together(2, lambda collective: ShardedAdamW(parameters(), collective).state())
    held = [{name for name, part in state.items() if part.held is not None} for state in states]
    assert held[0] | held[1] == set(states[0])
    assert not held[0] & held[1]
    for rank, state in enumerate(states):
        assert {name for name, part in state.items() if part.owner == rank} == held[rank]


def test_a_tensor_received_from_another_worker_has_its_shape_and_values() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)

    def work(collective: Collective) -> Any:
        held = Parameter(Tensor(values), name="held") if collective.world.rank == 1 else None
        return Part(1, (2, 3), held).gather(collective)

    for found in together(3, work):
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("workers", [2, 8, 32])
def test_the_shares_of_latte_xl_differ_by_two_percent_at_most(workers: int) -> None:
    shape = LatteDescription(1152, 28, 2, 16, 256, "none", None, learn_sigma=True, mlp_ratio=4.0)
    sizes = [prod(sides) for name, sides in latte_layout(shape).items() if name not in TABLES]
    loads = np.bincount(owners(sizes, workers), weights=sizes, minlength=workers)
    assert loads.sum() == sum(sizes) > 670_000_000
    assert loads.max() <= 1.02 * loads.sum() / workers
