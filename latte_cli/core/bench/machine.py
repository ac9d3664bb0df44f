"""Description of the machine and software of a benchmark."""

import os
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from latte_cli import __version__

PACKAGES = ("mindspore", "mindone", "numpy")


def describe(device: str) -> dict[str, Any]:
    """Processor, memory, system, versions, and whether `device` (cpu, ascend, gpu) uses compiled kernels.

    Imports MindSpore.
    """
    from latte_cli.core.kernels.selection import kernels_available

    kernels = "compiled" if kernels_available() else "operators"
    return {"device": device, **machine(), "kernels": kernels}


def machine() -> dict[str, Any]:
    """Processor, memory, system and versions, as far as they are known without MindSpore."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "latte": __version__,
    }


def peak_bytes(device: str) -> int:
    """Peak memory of this process: resident, or on the accelerator."""
    if device != "cpu":
        import mindspore as ms

        return int(ms.runtime.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
