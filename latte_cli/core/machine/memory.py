"""Total and free memory of this machine. Does not import MindSpore."""

import os
from pathlib import Path

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
CGROUP_USES = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")
MEMINFO = "/proc/meminfo"


def machine_memory() -> int:
    """Total bytes of the machine, or of the container if limited."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *map(_number, CGROUP_LIMITS)]
    return min(limit for limit in limits if limit)


def free_memory() -> int:
    """Bytes available without swapping, in the machine and in the container if limited."""
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
    """The number in a file; None if it contains none, such as "max"."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None
