"""The process that computes: `python -m latte_cli.core.doctor.self_test.worker DEVICE FILE NAME...`.

It appends a line of JSON to FILE for each test, and one before it, so that the other process knows which test
has ended it.
"""

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from latte_cli.core.doctor.self_test.rows import Row, compared

ONLY_ON = {"flash-attention-float16": ("ascend",), "flash-attention-bfloat16": ("ascend",)}
BFLOAT16 = "bfloat16"  # MindSpore has no matrix product of it on a CPU


def main(device: str, target: Path, names: list[str]) -> None:
    """Run tests by name; default: all."""
    from latte_cli.core.machine.device import use_device

    used = use_device(device)
    every = all_names()  # imports what takes long, before the first test is timed
    for name in names or every:
        _append(target, {"begins": name})
        begun = time.monotonic()
        row = replace(run_one(name, used), seconds=round(time.monotonic() - begun, 2))
        _append(target, asdict(row))


def run_one(name: str, device: str) -> Row:
    """Run a test on a device; its errors are rows too."""
    if device not in ONLY_ON.get(name, (device,)):
        return Row(name, "not here", f"for {', '.join(ONLY_ON[name])} only")
    if device == "cpu" and name.endswith(BFLOAT16):
        return Row(name, "not here", "MindSpore computes no bfloat16 on a CPU")
    try:
        return _run(name)
    except Exception as error:  # noqa: BLE001 (a device may fail in any way; the other tests go on)
        lines = str(error).strip().splitlines() or [""]
        return Row(name, "failed", f"{type(error).__name__}: {lines[0]}")


def _run(name: str) -> Row:
    from latte_cli.core.doctor.self_test import checks
    from latte_cli.core.doctor.self_test.expected import allowed_of, expected_of
    from latte_cli.core.doctor.self_test.graphs import CASES

    if name in checks.OTHERS:
        return Row(name, "ok", checks.OTHERS[name]())
    if name in checks.FLASH:
        dtype = checks.FLASH[name]
        error, allowed = checks.flash_error(dtype), checks.ALLOWED[dtype]
    else:
        error, allowed = compared(CASES[name](), expected_of(name)), allowed_of(name)
    return Row(name, "ok" if error <= allowed else "failed", error=error, allowed=allowed)


def all_names() -> list[str]:
    """The names of all tests of this process."""
    from latte_cli.core.doctor.self_test import checks
    from latte_cli.core.doctor.self_test.graphs import CASES

    return [*CASES, *checks.FLASH, *checks.OTHERS]


def _append(target: Path, line: dict[str, Any]) -> None:
    with target.open("a") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
