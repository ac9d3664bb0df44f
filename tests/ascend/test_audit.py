"""Every graph that Ascend would be given, against MindSpore's documentation. Nothing here ran on Ascend."""

import json
import os
import re
import subprocess
import sys
from itertools import accumulate
from pathlib import Path

import pytest

from latte_cli.core.doctor.self_test.expected import ALLOWED, allowed_of
from latte_cli.core.doctor.self_test.graphs import CASES as SELF_TEST
from latte_cli.core.doctor.self_test.graphs import latte
from tests.ascend import audit
from tests.ascend.graphs import CASES, PLANTED
from tests.ascend.statements import COLLECTIVES, statement_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "ascend.md"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of graphs, compiled in another process: it answers Ascend for its device."""
    folder = tmp_path_factory.mktemp("graphs")
    command = [sys.executable, "-m", "tests.ascend.graphs", str(folder), *CASES, *PLANTED]
    only_these = {"MS_DEV_DUMP_IR_PASSES": "validate"}  # writing every graph takes as long as compiling
    environment = os.environ | {"LATTE_KERNELS": "off", "GLOG_v": "4", "PYTHONPATH": str(ROOT)} | only_these
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def graphs(written: Path) -> dict[str, str]:
    """Validated graphs by name."""
    return {path.stem: path.read_text() for path in written.glob("*.ir")}


pytestmark = pytest.mark.slow


def test_graphs_that_a_cpu_can_execute_compute_what_pytorch_does(written: Path) -> None:
    """With MindSpore's operators alone; attention of 16 bits is none of a CPU's."""
    errors = json.loads((written / "errors.json").read_text())
    in_32_bits = {name for name in SELF_TEST if allowed_of(name) == ALLOWED["float32"]} - {"latte-reuse"}
    in_16_bits = {"text-float16", "vae-encode-float16", "vae-decode-float16"}
    assert errors.keys() == in_32_bits | in_16_bits
    allowed = dict.fromkeys(in_32_bits, 2e-5) | {name: allowed_of(name) for name in in_16_bits}
    assert {name: error for name, error in errors.items() if error > allowed[name]} == {}


@pytest.mark.parametrize("name", CASES)
def test_a_graph_contains_only_operators_that_ascend_supports(name: str, graphs: dict[str, str]) -> None:
    assert audit.primitives(graphs[name])
    assert audit.findings(graphs[name]) == set()


IN_16_BITS = [name for name in CASES if name.startswith("t2v") and not name.endswith("float32")]
IN_16_BITS += ["latte-train-float16", "latte-train-bfloat16", "latte-joint", "latte-linear-patches"]
IN_16_BITS += ["latte-recompute", "latte-accumulation", "latte-two-workers"]


@pytest.mark.parametrize("name", IN_16_BITS)
def test_attention_of_16_bits_is_ascend_s_operator(name: str, graphs: dict[str, str]) -> None:
    found = audit.primitives(graphs[name])
    if name == "t2v-reuse":  # no block is computed
        assert not found & {"FlashAttentionScore", "BatchMatMul"}
    else:
        assert "FlashAttentionScore" in found
        assert "BatchMatMul" not in found


def test_no_step_of_training_waits_for_the_host_at_a_branch(graphs: dict[str, str]) -> None:
    """But for accumulation, whose last pass differs from the others."""
    branching = {name for name in CASES for node in audit.nodes(graphs[name]) if node.primitive == "Switch"}
    assert branching == {"latte-accumulation"}


def test_steps_that_reuse_the_blocks_change_compute_no_block(graphs: dict[str, str]) -> None:
    kept, reused = (list(audit.nodes(graphs[f"latte-{name}"])) for name in ("keep", "reuse"))
    products = [sum(node.primitive == "MatMul" for node in graph) for graph in (kept, reused)]
    assert 0 < products[1] < products[0]


EXCHANGED = "expected one of bfloat16, float16, float32, int32, int8, by comm_ops"


def test_workers_exchange_gradients_and_with_a_sharded_optimizer_weights(graphs: dict[str, str]) -> None:
    """In the same order: otherwise two workers would wait for each other."""
    names = [f"latte-{name}" for name in ("two-workers", "sharded-0", "sharded-1")]
    plain, *sharded = (audit.exchanges(graphs[name]) for name in names)
    *gradients, (_, losses) = plain
    assert losses == (4,)
    assert len(gradients) == len(latte(depth=1).trainable_params())
    expected = plain + [("Broadcast", shape) for _, shape in reversed(gradients)]
    assert sharded == [expected, expected]
    for name, found in zip(names, (plain, *sharded), strict=True):
        assert audit.needs(graphs[name], *COLLECTIVES) == list(range(len(found)))


def test_a_worker_sends_its_weights_after_their_update(graphs: dict[str, str]) -> None:
    sent = []
    for rank in range(2):
        graph = graphs[f"latte-sharded-{rank}"]
        owners = [int(owner) for owner in re.findall(r"root_rank: I64\((\d)\)", graph)]
        assert set(owners) == {0, 1}
        updates = audit.needs(graph, "Adam")[-len(owners) :]
        assert updates == list(accumulate(owner == rank for owner in owners))
        sent.append(owners)
    assert sent[0] == sent[1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("float64", "Cast: Float64"),
        ("cpu-only", "Lgamma: for CPU, GPU only, by mindspore.ops.operations.Lgamma"),
        ("dynamic-shape", "NonZero: a shape that is not known when the graph is compiled"),
        ("dynamic-shape", "NonZero: Int64"),
        ("host", "Print: runs on the host"),
        ("broadcast-float64", "Broadcast: Float64"),
        ("broadcast-float64", f"Broadcast: Float64, {EXCHANGED}"),
        ("all-reduce-int16", f"AllReduce: Int16, {EXCHANGED}"),
    ],
)
def test_what_ascend_does_not_run_is_found(name: str, expected: str, graphs: dict[str, str]) -> None:
    assert expected in audit.findings(graphs[name])


def test_operators_without_a_statement_are_listed_by_name(graphs: dict[str, str]) -> None:
    used = set.union(*(audit.primitives(graphs[name]) for name in CASES))
    silent = {name for name in used if statement_of(name) is None}
    section = PAGE.read_text().partition("## Operators without a statement")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == silent


def test_types_that_an_operator_does_not_take_are_found() -> None:
    types = "(<Tensor[BFloat16], (2, 2)>) -> (<Tensor[BFloat16], (2, 2)>)"
    (found,) = audit.findings(f"  %0(a) = MaxPool(%1)\n      : {types}")
    assert found.startswith("MaxPool: BFloat16, expected one of float16, float32")
