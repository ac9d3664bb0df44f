import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from latte_cli.core.machine.interrupts import exit_code, stopped_by_signals

COMPUTE = """
import os, signal
import numpy as np
from mindspore import Tensor
from latte_cli.core.kernels.waiting import Compiled


def add(x):
    return x + 1, x + 1


Compiled(add)(Tensor(np.ones(3, np.float32)))
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
def test_ctrl_c_interrupts_python_after_mindspore_has_computed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(COMPUTE)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert done.stdout == "interrupted\n", done.stderr


pytestmark = pytest.mark.usefixtures("as_from_a_terminal")
STOPPING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", STOPPING)
def test_stop_signals_interrupt_the_block_and_are_restored_afterwards(number: int) -> None:
    before = [signal.getsignal(each) for each in STOPPING]
    with pytest.raises(KeyboardInterrupt), stopped_by_signals():
        os.kill(os.getpid(), number)
    assert exit_code() == (129 if number == signal.SIGHUP else 130)
    assert [signal.getsignal(each) for each in STOPPING] == before


def test_repeated_hangups_count_once() -> None:
    came = 0
    with stopped_by_signals():
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        except KeyboardInterrupt:
            came += 1
            os.kill(os.getpid(), signal.SIGHUP)  # from the kernel, then from the shell
    assert came == 1
    with pytest.raises(KeyboardInterrupt), stopped_by_signals():
        raise KeyboardInterrupt
    assert exit_code() == 130, "for this command, not an earlier one"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])  # as nohup does, and a shell's &
def test_a_signal_that_is_ignored_stays_so(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stopped_by_signals():
            os.kill(os.getpid(), number)
    finally:
        signal.signal(number, before)
