"""A tensor's memory as an array."""

from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, ops

from latte_cli.core.kernels.memory import memory_of

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


@ms.jit
def twice(x):  # type: ignore[no-untyped-def]
    return x * 2.0


def assigned() -> Parameter:
    parameter = Parameter(Tensor.from_numpy(np.zeros((3, 4), np.float32)))
    ops.assign(parameter, Tensor(VALUES))
    return parameter


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Tensor(VALUES), VALUES),
        (lambda: Tensor.from_numpy(VALUES.copy()), VALUES),
        (lambda: Parameter(Tensor(VALUES)), VALUES),
        (assigned, VALUES),
        (lambda: twice(Tensor(VALUES)), 2 * VALUES),
        (lambda: Tensor(3.0, ms.float32), np.float32(3)),
    ],
    ids=["tensor", "from NumPy", "parameter", "assigned", "of a graph", "scalar"],
)
def test_what_is_written_to_the_memory_is_read_from_the_tensor(make: Any, expected: Any) -> None:
    tensor = make()
    numbers = memory_of(tensor)
    assert numbers is not None
    np.testing.assert_array_equal(numbers, expected, strict=True)
    numbers += 1
    np.testing.assert_array_equal(tensor.asnumpy(), expected + 1)


@pytest.mark.parametrize(
    "tensor",
    [Tensor(VALUES, ms.float16), Tensor(VALUES, ms.int32), Tensor(VALUES).T, Tensor(VALUES)[:, 1:]],
    ids=["float16", "int32", "transposed", "part of each row"],
)
def test_other_types_and_numbers_that_are_not_contiguous_have_no_memory_to_use(tensor: Tensor) -> None:
    assert memory_of(tensor) is None
