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
from tests.ascend.pretending import answer_ascend, attend
from tests.core.training.test_sinking import queue_on_the_host


def attention(query: Tensor, key: Tensor, value: Tensor, _: int, **options: Any) -> Tensor:
    """`ops.flash_attention_score` by its formula."""
    return attend(query, key, value, options["attn_mask"], options["scalar_value"])


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
