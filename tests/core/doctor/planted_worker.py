"""The self-test's worker with faults: wrong numbers, none, an error, a crash, a test that never ends."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from latte_cli.core.doctor.self_test import worker
from latte_cli.core.doctor.self_test.expected import expected_of
from latte_cli.core.doctor.self_test.graphs import CASES, Results


def wrong() -> Results:
    return {name: one * np.float32(1.01) for name, one in expected_of("temporal-decoder").items()}


def not_finite() -> Results:
    return {name: one * np.float32("nan") for name, one in expected_of("vae-decode-float32").items()}


def raises() -> Results:
    raise RuntimeError("The kernel Conv2DExt unregistered.\nmore lines")


def crashes() -> Results:
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def hangs() -> Results:
    time.sleep(1000)
    return {}


CASES |= {
    "temporal-decoder": wrong,
    "vae-decode-float32": not_finite,
    "i3d": raises,
    "latte-joint": crashes,
    "t2v-lora": hangs,
}

if __name__ == "__main__":
    worker.main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
