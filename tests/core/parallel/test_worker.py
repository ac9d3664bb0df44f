"""Processes that end with the one that started them."""

import subprocess
import sys
import time

from latte_cli.core.parallel.worker import lives

CHILD = """
import os, time
from latte_cli.core.parallel.worker import end_with
end_with({parent})
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {CHILD.format(parent="os.getppid()")!r}])
"""


def test_a_process_ends_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert lives(child)
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 30
    while lives(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not lives(child)


def test_a_process_whose_parent_has_ended_ends_at_once() -> None:
    late = [sys.executable, "-c", CHILD.format(parent=1)]
    done = subprocess.run(late, stdout=subprocess.PIPE, check=False, timeout=50)
    assert (done.returncode, done.stdout) == (1, b"")
