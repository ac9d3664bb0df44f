"""Select the implementation: the compiled kernels or MindSpore's operators."""

import os
from typing import Any

import mindspore as ms
from mindspore import ops

from latte_cli.core.kernels.build import library_path

_forced: list[bool | None] = [None]


def kernels_available() -> bool:
    """Whether the compiled kernels are used: on a CPU, if built, unless forced off or LATTE_KERNELS=off.

    The first call compiles them (some 15 s, once per machine). Functions already compiled by `ms.jit`
    keep their implementation.
    """
    if ms.get_context("device_target") != "CPU":
        return False
    return not _are_off() and library_path() is not None


def works_as_device() -> bool:
    """Whether training takes its steps as one graph: on devices, and where the kernels are switched off."""
    return ms.get_context("device_target") != "CPU" or _are_off()


def force_kernels(use: bool | None) -> None:
    """Force the compiled kernels on (True, if available) or off (False); None restores the default."""
    _forced[0] = use


# `kernels_available` for compiled functions: executed, not parsed.
use_fused: Any = ops.constexpr(kernels_available, reuse_result=False)


def _are_off() -> bool:
    """Whether the compiled kernels are switched off, by `force_kernels` or the environment."""
    if _forced[0] is not None:
        return not _forced[0]
    return os.environ.get("LATTE_KERNELS", "on").lower() in ("off", "0", "false")
