"""Dataset sinking, with MindSpore's queue replaced by one on the host, since a CPU has none."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore.dataset import GeneratorDataset

from latte_cli.core.checkpoints.runs import checkpoints
from latte_cli.core.kernels.selection import force_kernels
from latte_cli.core.training import starting
from tests.core.training.tiny_runs import Moments, settings_in, trainer_of, untimed, weights_of

pytestmark = pytest.mark.slow


def queue_on_the_host(
    fn: Callable[..., Any],
    dataset: GeneratorDataset,
    sink_size: int,
    deliver: Callable[[Iterator[Any]], Iterator[Any]] = iter,
) -> Callable[[], Any]:
    """As documented: read the data's shapes, send it from its start, and call `fn` with the next item.

    deliver: what the queue makes of the items.
    """
    assert sink_size == 1
    assert len(dataset.output_shapes()) == len(dataset.output_types())
    sent = deliver(dataset.create_tuple_iterator(num_epochs=1))
    return lambda: fn(*next(sent))


@pytest.fixture
def sinking(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make training work as on a device, with sinking if requested."""
    monkeypatch.setattr(ms, "data_sink", queue_on_the_host)
    monkeypatch.setattr(starting, "uses_sink_mode", lambda settings, _: settings.train.sink_mode is True)
    force_kernels(False)
    yield
    force_kernels(None)


@pytest.mark.usefixtures("sinking")
def test_a_stopped_and_resumed_run_with_sink_mode_has_the_bits_of_an_uninterrupted_one_without(
    tmp_path: Path,
) -> None:
    same = {"dtype": "float16", "accumulation": 2, "steps": 5, "log_every": 3, "checkpoint_every": 10}
    plain = trainer_of(settings_in(tmp_path / "plain", **same))
    plain.progress = replace(plain.progress, loss_scale=replace(plain.progress.loss_scale, value=2.0**40))
    expected = list(plain.run(Moments(), None))
    assert expected[-1].loss_scale.dropped >= 1  # a step determines the scale of the next

    settings = settings_in(tmp_path / "sunk", sink_mode=True, **same)
    first = trainer_of(settings)
    first.progress = replace(first.progress, loss_scale=replace(first.progress.loss_scale, value=2.0**40))
    reports = list(first.run(Moments(), None, stopping=lambda: first.progress.step == 2))
    second = trainer_of(settings)
    second.resume(checkpoints(tmp_path / "sunk" / "ckpt")[-1])
    reports += list(second.run(Moments(), None))

    np.testing.assert_equal(untimed(reports), untimed(expected))  # a loss can be NaN in both
    assert [line["step"] for line in untimed(reports)] == [3, 5]
    assert second.progress.loss_scale == plain.progress.loss_scale
    found = weights_of(second)
    for name, values in weights_of(plain).items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
