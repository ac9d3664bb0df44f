"""Training on a CPU as on a device: each step is one graph of MindSpore's operators."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from latte_cli.core.checkpoints.runs import checkpoints
from latte_cli.core.errors import LatteError
from latte_cli.core.kernels.selection import force_kernels
from latte_cli.core.training import one_graph, starting
from latte_cli.core.training.precision import LossScale
from latte_cli.core.training.report import TrainReport
from latte_cli.core.training.trainer import Trainer
from tests.core.training.tiny_runs import Moments, settings_in, trainer_of, untimed, weights_of

EVERYTHING = {
    "accumulation": 2,
    "weight_decay": 0.1,
    "clip_norm": 0.3,
    "clip_start": 1,
    "warmup_steps": 3,
    "ema_decay": 0.2,
}


@pytest.fixture(autouse=True)
def _plain_operators() -> Iterator[None]:
    force_kernels(False)
    yield
    force_kernels(None)


def with_scale(trainer: Trainer, value: float) -> Trainer:
    """The trainer with another initial loss scale."""
    scale = replace(trainer.progress.loss_scale, value=value)
    trainer.progress = replace(trainer.progress, loss_scale=scale)
    return trainer


def on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make new trainers compute steps as on a CPU."""
    monkeypatch.setattr(starting, "works_as_device", lambda: False)


def compare(found: Trainer, expected: Trainer, reports: tuple[list[TrainReport], list[TrainReport]]) -> None:
    """Compare two runs: metrics with a relative tolerance of 1e-6, weights and moments to 1e-6."""
    lines, expected_lines = map(untimed, reports)
    assert len(lines) == len(expected_lines)
    for line, other in zip(lines, expected_lines, strict=True):
        assert line == pytest.approx(other, rel=1e-6, abs=1e-8)
    values = weights_of(found)
    for name, other in weights_of(expected).items():
        np.testing.assert_allclose(values[name], other, rtol=0, atol=1e-6, err_msg=name)
    assert found.progress.loss_scale == expected.progress.loss_scale


def test_mindspore_gets_the_jit_level_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels: dict[str, str] = {}

    def jit(function: Any, **options: Any) -> Any:
        levels[function.__name__] = options["jit_level"]
        return function

    monkeypatch.setattr(ms, "jit", jit)
    trainer_of(settings_in(tmp_path, jit_level="O1"))
    assert levels["one_pass"] == "O1"


@pytest.mark.slow
def test_steps_in_one_graph_match_those_with_compiled_kernels(tmp_path: Path) -> None:
    found = trainer_of(settings_in(tmp_path / "graph", **EVERYTHING))
    reports = list(found.run(Moments(), None))
    assert not found.steps.reads_all
    force_kernels(True)
    expected = trainer_of(settings_in(tmp_path / "kernels", **EVERYTHING))
    assert expected.steps.reads_all
    compare(found, expected, (reports, list(expected.run(Moments(), None))))


@pytest.mark.slow
def test_a_float16_step_that_overflows_is_skipped_in_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same: dict[str, Any] = EVERYTHING | {"dtype": "float16", "steps": 4}
    found = with_scale(trainer_of(settings_in(tmp_path / "graph", **same)), 2.0**40)
    reports = list(found.run(Moments(), None))
    on_the_host(monkeypatch)
    expected = with_scale(trainer_of(settings_in(tmp_path / "host", **same)), 2.0**40)
    compare(found, expected, (reports, list(expected.run(Moments(), None))))
    scale = found.progress.loss_scale
    assert 1 <= scale.dropped < 4
    assert scale.value == 2.0 ** (40 - scale.dropped)


@pytest.mark.slow
def test_a_run_stopped_between_readings_and_resumed_has_the_bits_of_an_uninterrupted_one(
    tmp_path: Path,
) -> None:
    same: dict[str, Any] = EVERYTHING | {"checkpoint_every": 10, "log_every": 3}
    whole = trainer_of(settings_in(tmp_path / "whole", **same))
    expected = list(whole.run(Moments(), None))
    first = trainer_of(settings_in(tmp_path / "parts", **same))
    reports = list(first.run(Moments(), None, stopping=lambda: first.progress.step == 2))
    second = trainer_of(settings_in(tmp_path / "parts", **same))
    second.resume(checkpoints(tmp_path / "parts" / "ckpt")[-1])
    reports += list(second.run(Moments(), None))
    assert untimed(reports) == untimed(expected)
    assert [line["step"] for line in untimed(reports)] == [3, 6]
    values = weights_of(second)
    for name, other in weights_of(whole).items():
        np.testing.assert_array_equal(values[name], other, err_msg=name)


@pytest.mark.slow
def test_the_host_reads_only_the_first_step_and_each_line_of_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(settings_in(tmp_path, steps=9, log_every=3, checkpoint_every=100))
    reading: list[str] = []
    read = Tensor.asnumpy

    def counted(tensor: Tensor) -> np.ndarray:
        reading.append(getattr(tensor, "name", "a result"))
        return read(tensor)

    stream = trainer.run(Moments(), None)
    next(stream)  # compiles, which reads constants
    monkeypatch.setattr(Tensor, "asnumpy", counted)
    assert [len(reading) for _, _ in zip(range(7), stream, strict=False)] == [0, 1, 1, 1, 2, 2, 2]
    assert reading == ["rows"] * 2
    next(stream)
    assert reading == ["rows"] * 3
    list(stream)  # saves every tensor
    assert len(reading) == 3 + len(trainer.tensors)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_updates_at_once_and_is_reported_when_read(tmp_path: Path) -> None:
    trainer = trainer_of(settings_in(tmp_path, steps=9, log_every=5, checkpoint_every=100))
    stream = trainer.run(Moments(), None)
    next(stream)
    next(stream)
    bias = trainer.model.final_layer.linear.bias  # type: ignore[attr-defined]
    good = bias.asnumpy().copy()
    bias.asnumpy()[0] = np.nan
    next(stream)
    bias.asnumpy()[...] = good  # later steps are finite, but the run already failed
    before = weights_of(trainer)
    next(stream)
    for name, values in weights_of(trainer).items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)
    with pytest.raises(LatteError, match=r"^train: the loss is nan .* at step 3: stopped"):
        next(stream)
    assert checkpoints(tmp_path / "ckpt") == []


@pytest.mark.parametrize("value", [2.0**16, 2.0**24])
def test_the_loss_scale_on_the_device_equals_that_of_the_host(value: float) -> None:
    host = LossScale(value, dynamic=True, good_steps=1995)
    counts = np.array([host.value, host.good_steps, host.dropped, 0], np.float32)
    for step in range(30):
        overflow = step in (12, 13, 20)
        numbers = (Tensor(np.float32(not overflow)), Tensor(np.float32(overflow)))
        counts = one_graph._counts_after(Tensor(counts), *numbers, True).asnumpy()
        host = host.after(overflow=overflow)
        assert tuple(counts) == (host.value, host.good_steps, host.dropped, 0)
    assert host.dropped == 3
    assert math.log2(host.value) == math.log2(min(2 * value, 2.0**24)) - 3
