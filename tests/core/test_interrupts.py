import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from latte_cli.core.interrupts import stopped_by_sigterm

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


def test_ctrl_c_interrupts_python_although_mindspore_has_computed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(COMPUTE)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert done.stdout == "interrupted\n", done.stderr


def test_sigterm_interrupts_within_and_is_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stopped_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
