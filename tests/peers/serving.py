"""A worker's side of the measurement: always running, but computing only on request."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Task = Callable[[], Any]
"""Does the work once, waits until it is done, and returns an array of results or None."""


def serve(make: Callable[[str, str], Task]) -> None:
    """Answer the driver: `worker.py TASK SIZE`, then a line of JSON on stdin for every line on stdout.

    {"do": N} runs the task N times: {"seconds": ..., "cpu_seconds": ...}, means, the latter of all threads;
    {"save": path} writes its last result; {"peak": true} tells the process's largest resident size so far, in
    bytes. What libraries print goes to stderr.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    begun = time.perf_counter()
    task = make(*sys.argv[1:3])
    answer(ready=time.perf_counter() - begun, resident=peak())
    result = None
    for line in sys.stdin:
        expected = json.loads(line)
        if "do" in expected:
            begun, busy = time.perf_counter(), time.process_time()
            for _ in range(expected["do"]):
                result = task()
            number = expected["do"]
            answer(
                seconds=(time.perf_counter() - begun) / number,
                cpu_seconds=(time.process_time() - busy) / number,
            )
        elif "save" in expected:
            np.save(expected["save"], np.asarray([] if result is None else result))
            answer(saved=expected["save"])
        else:
            answer(peak=peak())


def peak() -> int:
    """The largest resident size so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
