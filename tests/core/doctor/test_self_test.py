"""`latte doctor --self-test` on a CPU, with what only a device has replaced, and with planted faults."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mindspore import Tensor, ops
from typer.testing import CliRunner

from latte_cli.cli.app import app
from latte_cli.core.doctor import installation
from latte_cli.core.doctor.findings import Finding
from latte_cli.core.doctor.self_test import campaign, report, runs, speed
from latte_cli.core.doctor.self_test.campaign import computed
from latte_cli.core.doctor.self_test.expected import RECORDED, allowed_of, expected_of
from latte_cli.core.doctor.self_test.graphs import CASES
from latte_cli.core.doctor.self_test.rows import Row, compared
from latte_cli.core.doctor.self_test.worker import run_one
from latte_cli.core.errors import LatteError
from tests.core.kernels.test_flash import documented

ROOT = Path(__file__).parents[3]
ROWS = [Row("one", "ok", "", 1.25, 1e-6, 2e-3), Row("two", "failed", "RuntimeError: no kernel", 0.5)]


def test_every_graph_has_expected_numbers_and_every_recorded_number_is_used() -> None:
    with np.load(RECORDED) as recorded:
        numbers = {name: recorded[name] for name in recorded.files}
    used = set()
    for name in CASES:
        expected = expected_of(name)
        assert expected, name
        assert all(np.isfinite(one).all() for one in expected.values()), name
        assert 0 < allowed_of(name) < 1, name
        found = {one.tobytes() for one in expected.values()}
        used |= {part for part, values in numbers.items() if values.tobytes() in found}
    assert used == set(numbers)


@pytest.mark.slow
@pytest.mark.plain
def test_every_graph_computes_on_this_processor_what_pytorch_does(tmp_path: Path) -> None:
    rows = list(computed("cpu", tmp_path))
    assert [row for row in rows if row.verdict == "failed"] == []
    elsewhere = {row.name for row in rows if row.verdict == "not here"}
    bfloat16 = {name for name in CASES if name.endswith("bfloat16")}
    assert elsewhere == {*bfloat16, "flash-attention-float16", "flash-attention-bfloat16"}
    assert {row.name for row in rows} == {*CASES, *elsewhere, "float16-overflow"}
    for row in rows:
        if row.verdict == "ok" and row.name.endswith("float32"):
            assert row.error is not None
            assert row.error < 2e-5, row


@pytest.mark.slow
def test_planted_faults_are_rows_and_the_other_tests_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    names = ["optimizer", "temporal-decoder", "vae-decode-float32", "latte-joint", "t2v-lora", "i3d"]
    names.append("text-float32")
    planted = "tests.core.doctor.planted_worker"
    rows = {row.name: row for row in computed("cpu", tmp_path, names=names, module=planted, seconds=20.0)}
    assert list(rows) == names
    verdicts = {name: row.verdict for name, row in rows.items()}
    assert verdicts == dict.fromkeys(names, "failed") | {"optimizer": "ok", "text-float32": "ok"}
    assert rows["temporal-decoder"].error == pytest.approx(0.01, rel=1e-3)
    assert rows["vae-decode-float32"].error == float("inf")
    assert rows["latte-joint"].found == "the process was ended by SIGSEGV"
    assert rows["t2v-lora"].found == "no result within 20 s"
    assert rows["i3d"].found == "RuntimeError: The kernel Conv2DExt unregistered."


def test_a_worker_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LatteError, match=r"^--self-test: the process ended with code 1: .*No module named"):
        list(computed("cpu", tmp_path, names=["optimizer"], module="latte_cli.core.doctor.no_such_module"))


def test_the_fused_attention_is_compared_with_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "flash-attention-float16"
    monkeypatch.setattr(ops, "flash_attention_score", documented)
    right = run_one(name, "ascend")
    assert right.verdict == "ok"
    assert right.error is not None
    assert right.error < 1e-3

    def unscaled(*arrays: Tensor, scalar_value: float, **kinds: Any) -> Tensor:
        return documented(*arrays, scalar_value=1.1 * scalar_value, **kinds)  # type: ignore[arg-type]

    monkeypatch.setattr(ops, "flash_attention_score", unscaled)
    assert run_one(name, "ascend").verdict == "failed"
    assert run_one(name, "cpu").verdict == "not here"


def test_norms_and_numbers_of_gradients_are_compared_each_by_its_own_scale() -> None:
    expected = {
        "norms": np.array([100.0, 2.0, 1e-9]),
        "numbers": np.array([[1.0, 0.5], [0.2, 1.0], [1.0, 1.0]]),
    }
    assert compared({**expected, "norms": np.array([101.0, 2.0, 1e-3])}, expected) == pytest.approx(0.01)
    assert compared({**expected, "norms": np.array([100.0, 2.2, 0.0])}, expected) == pytest.approx(0.1)
    numbers = np.array([[1.0, 0.5], [0.3, 1.0], [-1.0, 1.0]])  # the last gradient is nothing but rounding
    assert compared({**expected, "numbers": numbers}, expected) == pytest.approx(0.1)
    with pytest.raises(ValueError, match=r"^out: found shape \(2,\), expected \(3,\)$"):
        compared({"out": np.zeros(2)}, {"out": np.zeros(3)})


@pytest.mark.slow
def test_runs_on_two_cards_have_the_losses_of_one(tmp_path: Path) -> None:
    rows = {row.name: row for row in runs.run_all("cpu", tmp_path)}
    verdicts = {name: row.verdict for name, row in rows.items()}
    assert verdicts == dict.fromkeys(runs.RUNS, "ok") | {"train-sink-mode": "not here"}


def test_a_run_with_other_losses_or_none_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "train": ([1.0, 1.0, 1.0, 1.0], ""),
        "train-sink-mode": ([1.0, 1.0, 1.0, 1.2], ""),
        "train-two-cards": ([], "HCCL: no link"),
        "train-two-cards-sharded": ([1.0, 1.0, 1.0, float("nan")], ""),
    }
    monkeypatch.setattr(runs, "_losses", lambda _, name, *__: found[name])
    monkeypatch.setattr(runs, "cards", lambda _: 2)
    rows = {row.name: row for row in runs.run_all("ascend", tmp_path)}
    assert [row.verdict for row in rows.values()] == ["ok", "failed", "failed", "failed"]
    assert rows["train-sink-mode"].error == pytest.approx(0.2)
    assert rows["train-two-cards"].found == "HCCL: no link"
    monkeypatch.setattr(runs, "cards", lambda _: 1)
    (tmp_path / "one").mkdir()
    *_, last = runs.run_all("ascend", tmp_path / "one")
    assert (last.verdict, last.found) == ("not here", "found 1 card, expected 2")


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Row]:
    """The rows of a self-test that takes no time, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    found = list(ROWS)
    monkeypatch.setattr(campaign, "computed", lambda *_: iter(found))
    monkeypatch.setattr(runs, "run_all", lambda *_: iter(()))
    monkeypatch.setattr(speed, "measure", lambda *_: Row("speed", "ok", "0.1 s per step"))
    monkeypatch.setattr(installation, "compute", lambda _: installation.Computed("cpu", "2.10.0"))
    return found


def test_the_command_prints_a_table_and_writes_both_files(rows: list[Row], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", "--self-test"], catch_exceptions=False)
    assert done.exit_code == 1
    table = [
        "one                        ok          1.2 s  error 1.0e-06, allowed 2.0e-03",
        "two                        failed      0.5 s  RuntimeError: no kernel",
        "speed                      ok                 0.1 s per step",
    ]
    assert done.stdout.splitlines()[-6:] == [
        *table,
        "",
        "2 ok, 1 failed, 0 not on this machine",
        "self-test.json, self-test.txt: attach them to an issue",
    ]
    written = json.loads((tmp_path / "self-test.json").read_text())
    assert [row["name"] for row in written["rows"]] == ["one", "two", "speed"]
    assert written["machine"]["device"] == "cpu"
    assert {"python", "mindspore"} <= {finding["check"] for finding in written["findings"]}
    assert {"mindspore", "latte", "processor"} <= set(written["machine"])
    assert (tmp_path / "self-test.txt").read_text().splitlines()[-5:-2] == table

    rows[1:] = []
    done = CliRunner().invoke(app, ["doctor", "--self-test", "--report", "card.json"], catch_exceptions=False)
    assert (tmp_path / "card.txt").read_text().endswith("2 ok, 0 failed, 0 not on this machine\n")


def test_a_device_on_which_nothing_computes_is_reported_too(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = installation.Computed(fault="libascend_hal.so: cannot open shared object file")
    monkeypatch.setattr(installation, "compute", lambda _: fault)
    done = CliRunner().invoke(app, ["doctor", "--device", "ascend", "--self-test"], catch_exceptions=False)
    assert done.exit_code == 1
    text = f"MindSpore does not compute on ascend: {fault.fault}"
    assert done.stdout.splitlines()[-4:] == [
        f"device                     failed             {text}",
        "",
        "0 ok, 1 failed, 0 not on this machine",
        "self-test.json, self-test.txt: attach them to an issue",
    ]
    written = json.loads((tmp_path / "self-test.json").read_text())
    assert written["machine"]["device"] == "ascend"
    assert [row["found"] for row in written["rows"]] == [text]
    (finding,) = [one for one in written["findings"] if one["check"] == "mindspore"]
    assert finding["verdict"] == "problem"


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LatteError, match=r"self-test\.json: cannot be written"):
        report.write_report(ROWS, [Finding("a", "b")], tmp_path / "file" / "self-test.json", device="cpu")


@pytest.mark.slow
def test_speed_is_a_row_of_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "MODEL", {"hidden_size": 24, "depth": 2, "num_heads": 2, "patch_size": 2})
    row = speed.measure("cpu", tmp_path)
    assert row.verdict == "ok", row
    assert "s per step" in row.found
