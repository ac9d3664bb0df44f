"""A CPU as an Ascend device: `python -m tests.core.doctor.fake_ascend COMMAND ...` is `latte` there.

MindSpore answers Ascend for its device; the fused attention is its documented formula in MindSpore's
operators, and the queue of inputs is on the host. All else computes as with the compiled kernels off. A queue
has the fault that the run's folder is named after, see FAULTS.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import Tensor, ops

from latte_cli.__main__ import main
from tests.ascend.pretending import answer_ascend
from tests.core.training.test_sinking import queue_on_the_host


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    head_num: int,
    *,
    attn_mask: Tensor | None = None,
    scalar_value: float = 1.0,
    input_layout: str = "BSH",
) -> Tensor:
    """`ops.flash_attention_score` by its formula, for layout BSND: softmax(mask(scale * q @ k.T)) @ v."""
    return attend(query, key, value, attn_mask, scalar_value)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """The formula in float32; where the mask is true, weights are 0."""
    q, k, v = [one.astype(ms.float32).transpose(0, 2, 1, 3) for one in (query, key, value)]
    scores = ops.BatchMatMul(transpose_b=True)(q, k) * scale
    if mask is not None:
        scores = scores + ops.broadcast_to(mask.astype(ms.float32), scores.shape) * -1e30
    mixed = ops.BatchMatMul()(ops.softmax(scores, -1), v)
    return mixed.transpose(0, 2, 1, 3).astype(query.dtype)


def dropped(items: Iterator[Any]) -> Iterator[Any]:
    """All but the second, and the first again at the end."""
    first, _, *rest = items
    yield from (first, *rest, first)


def repeated(items: Iterator[Any]) -> Iterator[Any]:
    """The first one twice."""
    first = next(items)
    yield from (first, first, *items)


FAULTS: dict[str, Callable[[Iterator[Any]], Iterator[Any]]] = {"dropped": dropped, "repeated": repeated}


def be_ascend(replace: Callable[[object, str, Any], None] = setattr) -> None:
    """Replace what only a device has. replace: sets an attribute."""
    answer_ascend(replace)
    replace(ops, "flash_attention_score", attention)


if __name__ == "__main__":
    run = Path(sys.argv[sys.argv.index("--run-dir") + 1]).name
    be_ascend()
    ms.data_sink = partial(queue_on_the_host, deliver=FAULTS.get(run, iter))
    main()
