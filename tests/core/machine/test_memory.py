"""The memory of a machine, and of a container on it."""

from pathlib import Path

import pytest

from latte_cli.core.machine import memory
from latte_cli.core.machine.memory import free_memory, machine_memory


def test_free_memory_is_the_lower_of_machine_and_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"limit": "9000\n", "use": "2000\n", "meminfo": "MemTotal: 99 kB\nMemAvailable:    8 kB\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "MEMINFO", str(tmp_path / "meminfo"))
    monkeypatch.setattr(memory, "CGROUP_LIMITS", [str(tmp_path / "none")])
    monkeypatch.setattr(memory, "CGROUP_USES", [str(tmp_path / "none")])
    assert free_memory() == 8192
    monkeypatch.setattr(memory, "CGROUP_LIMITS", [str(tmp_path / "limit")])
    monkeypatch.setattr(memory, "CGROUP_USES", [str(tmp_path / "use")])
    assert free_memory() == 7000
    assert machine_memory() == 9000
    monkeypatch.setattr(memory, "MEMINFO", str(tmp_path / "none"))
    assert free_memory() == 7000
