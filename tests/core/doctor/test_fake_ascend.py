"""The self-test's rows of the fused attention and of sink mode on a CPU as an Ascend device, with faults."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mindspore import Tensor, ops

from latte_cli.core.doctor.self_test import runs
from latte_cli.core.doctor.self_test.worker import run_one
from tests.ascend.pretending import attend
from tests.core.doctor import fake_ascend


@pytest.fixture
def _ascend(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ascend.be_ascend(monkeypatch.setattr)


# MindSpore takes two functions of one name and line for the same, so these are not made by a function.


def filled_width(query: Tensor, key: Tensor, value: Tensor, _: int, **options: object) -> Tensor:
    """Scaled by the width of the heads that are filled up with zeros."""
    return attend(query, key, value, options["attn_mask"], query.shape[-1] ** -0.5)


def inverted_mask(query: Tensor, key: Tensor, value: Tensor, _: int, **options: object) -> Tensor:
    """Attends to what is masked."""
    mask = options["attn_mask"]
    return attend(query, key, value, mask if mask is None else ops.logical_not(mask), options["scalar_value"])


def no_mask(query: Tensor, key: Tensor, value: Tensor, _: int, **options: object) -> Tensor:
    """Attends to everything."""
    return attend(query, key, value, None, options["scalar_value"])


@pytest.mark.slow
@pytest.mark.usefixtures("_ascend")
def test_a_wrong_scale_or_mask_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "flash-attention-float16"
    assert run_one(name, "ascend").verdict == "ok"
    for fault in (filled_width, inverted_mask, no_mask):
        monkeypatch.setattr(ops, "flash_attention_score", fault)
        row = run_one(name, "ascend")
        assert row.verdict == "failed", fault
        assert row.error is not None


@pytest.mark.slow
@pytest.mark.usefixtures("_ascend")
@pytest.mark.parametrize(("fault", "verdict"), [(None, "ok"), (inverted_mask, "failed")])
def test_graphs_use_the_fused_attention(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[..., Tensor] | None, verdict: str
) -> None:
    if fault is not None:
        monkeypatch.setattr(ops, "flash_attention_score", fault)
    row = run_one("t2v-sample-float16", "ascend")
    assert row.verdict == verdict
    assert row.error is not None


@pytest.mark.slow
def test_a_queue_that_drops_or_repeats_inputs_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sinks = runs.RUNS["train-sink-mode"]
    names = ["train", "train-sink-mode", *fake_ascend.FAULTS]
    monkeypatch.setattr(runs, "RUNS", dict.fromkeys(names, sinks) | {"train": runs.RUNS["train"]})
    rows = list(runs.run_all("ascend", tmp_path, names, module="tests.core.doctor.fake_ascend"))
    assert [row.name for row in rows] == names
    assert [row.verdict for row in rows] == ["ok", "ok", "failed", "failed"], rows
    assert all(row.error is not None for row in rows[1:])  # its losses differ, it does not only end
