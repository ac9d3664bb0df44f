"""How much memory this machine has, and how much of it is free; no MindSpore."""

import os
from pathlib import Path

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
CGROUP_USES = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")
MEMINFO = "/proc/meminfo"


def machine_memory() -> int:
    """Bytes of this machine, or of the container we are in."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *map(_number, CGROUP_LIMITS)]
    return min(limit for limit in limits if limit)


def free_memory() -> int:
    """Bytes that could be had without swapping: of the machine, and of the container where it is limited."""
    free = machine_memory()
    for limit, use in zip(map(_number, CGROUP_LIMITS), map(_number, CGROUP_USES), strict=True):
        if limit and use:
            free = min(free, max(0, limit - use))
    try:
        lines = Path(MEMINFO).read_text().splitlines()
    except OSError:
        return free
    available = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min([free, *available])


def _number(path: str) -> int | None:
    """The number in a file; None where there is none, as for "max"."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None
