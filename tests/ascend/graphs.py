"""The graphs that this program compiles on Ascend, compiled on a CPU as far as MindSpore validates them.

`LATTE_KERNELS=off GLOG_v=4 python -m tests.ascend.graphs FOLDER [NAME ...]` writes FOLDER/NAME.ir for each,
and FOLDER/errors.json with the errors of what the self-test's graphs compute. The compiled kernels are off
and what depends on the device is chosen as on Ascend, so that a graph has the operators that an Ascend device
would be given. What a CPU cannot execute fails after validation; that failure is expected.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import amp, ops

from latte_cli.core.doctor.self_test import graphs
from latte_cli.core.doctor.self_test.drawing import normal
from latte_cli.core.doctor.self_test.expected import expected_of
from latte_cli.core.doctor.self_test.rows import compared
from latte_cli.core.parallel.collective import Collective
from latte_cli.core.parallel.world import World
from tests.ascend.pretending import answer_ascend

CASES: dict[str, Callable[[], object]] = dict(graphs.CASES)
"""What compiles each graph of the program."""
PLANTED: dict[str, Callable[[], object]] = {}
"""Graphs with one thing each that the audit should find."""


def planted(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function of one (4, 4) tensor that Ascend should not be given, to try the audit on."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        def compile_it() -> object:
            return ms.jit(function)(ms.Tensor(abs(normal("planted", 4, 4))))

        PLANTED[name] = compile_it
        return function

    return register


@planted("float64")
def _float64(x):  # type: ignore[no-untyped-def]
    return x.astype("float64") * 2.0


@planted("cpu-only")
def _cpu_only(x):  # type: ignore[no-untyped-def]
    return ops.Lgamma()(x)


@planted("dynamic-shape")
def _dynamic_shape(x):  # type: ignore[no-untyped-def]
    return ops.NonZero()(x)


@planted("host")
def _host(x):  # type: ignore[no-untyped-def]
    ops.Print()(x)
    return x + 1.0


@planted("all-reduce-int16")
def _all_reduce_int16(x):  # type: ignore[no-untyped-def]
    return ops.AllReduce()(x.astype("int16"))


@planted("broadcast-float64")
def _broadcast_float64(x):  # type: ignore[no-untyped-def]
    return ops.Broadcast(0)((x.astype("float64"),))[0]


def pretend_ascend() -> None:
    """Answer Ascend where this program, and MindSpore's test for overflow, ask for the device."""
    amp.context = SimpleNamespace(get_context=answer_ascend(), get_jit_config=ms.context.get_jit_config)


def reuse(model: Any, kind: str, *, rows: int = 1) -> None:
    """Evaluate a model as sampling with reuse does: keep in full steps, reuse in the others."""
    conditioned, (x_t, timesteps) = graphs.sampling_step(model, rows)
    if kind == "reuse":
        conditioned._change = np.zeros(ms.jit(model.embed)(ms.Tensor(x_t)).shape, np.float32)
    getattr(conditioned, kind)(x_t, timesteps)


# Each by itself, instead of the self-test's graphs of both.
CASES["latte-keep"] = lambda: reuse(graphs.latte(), "keep")
CASES["latte-reuse"] = lambda: reuse(graphs.latte(), "reuse")
CASES["t2v-keep"] = lambda: reuse(graphs.latte_t2v("float16"), "keep", rows=2)
CASES["t2v-reuse"] = lambda: reuse(graphs.latte_t2v("float16"), "reuse", rows=2)


def step_of_two_workers(rank: int, **changes: Any) -> None:
    """Take a float16 training step as one of two workers does on devices.

    The other worker is pretended: MindSpore makes and validates AllReduce and Broadcast without a group of
    workers, and fails only where it would run them. changes: of the settings of training.
    """
    collective = Collective(World(rank, 2), lambda _: None, on_device=True)
    model = graphs.latte("float16", depth=1)
    graphs.take_step(model, "float16", graphs.LOSS_SCALE, collective=collective, **changes)


CASES["latte-two-workers"] = partial(step_of_two_workers, 0)
for _rank in range(2):  # whose graphs differ
    CASES[f"latte-sharded-{_rank}"] = partial(step_of_two_workers, _rank, shard_optimizer=True)


def write(folder: Path, names: list[str]) -> None:
    """Write FOLDER/NAME.ir for each name, and errors.json: the relative errors of the self-test's graphs that
    a CPU can execute, by name. Raises RuntimeError where MindSpore validates no graph.
    """
    pretend_ascend()
    folder.mkdir(parents=True, exist_ok=True)
    cases: dict[str, Callable[[], object]] = {**CASES, **PLANTED}
    errors: dict[str, float] = {}
    for name in names:
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as dump:
            ms.set_context(save_graphs=1, save_graphs_path=dump)
            failure: Exception | None = None
            try:
                found = cases[name]()
                if isinstance(found, dict):
                    errors[name] = compared(found, expected_of(name))
            except (RuntimeError, TypeError, ValueError) as error:
                failure = error
            graphs = sorted(
                Path(dump).rglob("*_validate_*.ir"), key=lambda path: path.name.rsplit("_", 1)[-1]
            )
            if not graphs:
                raise RuntimeError(f"{name}: no validated graph") from failure
            (folder / f"{name}.ir").write_text("\n".join(path.read_text() for path in graphs))
            seconds = time.perf_counter() - begun
            end = "stops at a CPU's limits" if failure else "runs on a CPU"
            print(f"{name} {end}, {seconds:.1f} s", flush=True)
    (folder / "errors.json").write_text(json.dumps(errors))


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2:] or list(CASES))
