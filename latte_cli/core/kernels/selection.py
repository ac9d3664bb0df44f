"""Which of the two paths runs: the compiled kernels, or MindSpore's operators."""

import os
from typing import Any

import mindspore as ms
from mindspore import ops

from latte_cli.core.kernels.build import library_path

_forced: list[bool | None] = [None]


def kernels_available() -> bool:
    """Tell whether the compiled kernels are used: on a CPU, built, neither forced off nor LATTE_KERNELS=off.

    The first call compiles them (some ten seconds, once a machine). Functions that `ms.jit` has already
    compiled keep the path they were compiled with.
    """
    if ms.get_context("device_target") != "CPU":
        return False
    if _forced[0] is not None:
        return _forced[0] and library_path() is not None
    return (
        os.environ.get("LATTE_KERNELS", "on").lower() not in ("off", "0", "false")
        and library_path() is not None
    )


def force_kernels(use: bool | None) -> None:
    """Choose the path from here on: True the compiled kernels if there are any, False never, None either."""
    _forced[0] = use


# `kernels_available` within what is compiled: run there, not parsed.
use_fused: Any = ops.constexpr(kernels_available, reuse_result=False)
