import io
from pathlib import Path

import pytest

from latte_cli.core.parallel.logs import Relay, last_error

NOISE = "[WARNING] DISTRIBUTED(16502,7fbc6b7fe6c0,python):2026-11-23-01:51:42.099.255 [cluster.cc:316] 3.\n"
MINDSPORE_ERROR = """\
Traceback (most recent call last):
  File "train.py", line 3, in <module>
    init()
RuntimeError: Failed to initialize collective communication.

----------------------------------------------------
- C++ Call Stack: (For framework developers)
----------------------------------------------------
mindspore/ccsrc/cluster/init.cc:50 Initialize
"""


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", ""),
        (NOISE, ""),
        (
            f"training 1/10\n{MINDSPORE_ERROR}{NOISE}",
            "RuntimeError: Failed to initialize collective communication.",
        ),
        (
            "training 1/10\nTraceback (most recent call last):\n  File x\nlatte.Oops\nKeyError: 'a'\nbye\n",
            "KeyError: 'a'",
        ),
        ("data.root: no such folder\n\n", "data.root: no such folder"),
        ("\x1b[2K\rtraining 1/10\n\x1b[31mterminate called\x1b[0m\n", "terminate called"),
        ("x" * 500, "x" * 300),
    ],
)
def test_the_reason_is_the_last_error_line_of_the_log(tmp_path: Path, log: str, reason: str) -> None:
    path = tmp_path / "worker_0.log"
    path.write_text(log)
    assert last_error(path) == reason


def test_a_missing_log_has_no_reason(tmp_path: Path) -> None:
    assert last_error(tmp_path / "worker_0.log") == ""


def test_new_lines_of_a_log_are_shown_without_those_of_mindspore(tmp_path: Path) -> None:
    log, shown = tmp_path / "worker_0.log", io.BytesIO()
    relay = Relay(log, shown)
    relay.pump()  # nothing there yet
    with log.open("a") as file:
        for part, expected in (
            ("step 1\nste", "step 1\nste"),
            ("p 2\n", "step 1\nstep 2\n"),
            (NOISE[:4], "step 1\nstep 2\n"),
            (NOISE[4:] + "\rhalf a bar", "step 1\nstep 2\n\rhalf a bar"),
            ("\n[1, 2", "step 1\nstep 2\n\rhalf a bar\n"),
        ):
            file.write(part)
            file.flush()
            relay.pump()
            assert shown.getvalue().decode() == expected
    relay.pump(last=True)
    assert shown.getvalue().decode() == "step 1\nstep 2\n\rhalf a bar\n[1, 2"
