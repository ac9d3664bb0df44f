import errno
import math
import os
from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from latte_cli.core.checkpoints import save
from latte_cli.core.checkpoints.runs import checkpoints
from latte_cli.core.errors import LatteError
from latte_cli.core.parallel.collective import Collective
from latte_cli.core.parallel.world import World
from latte_cli.core.settings.schema import Settings
from latte_cli.core.training import state
from latte_cli.core.training.resuming import changes, check_global_batch, check_unchanged
from latte_cli.core.training.state import Progress, read_progress
from tests.core.training.tiny_runs import Moments, settings_in, trainer_of, untimed, weights_of


@pytest.mark.slow
def test_a_stopped_and_resumed_run_has_the_bits_of_an_uninterrupted_one(
    tmp_path: Path,
) -> None:
    whole = trainer_of(settings_in(tmp_path / "whole"))
    expected = list(whole.run(Moments(), None))
    assert [report.step for report in expected] == [1, 2, 3, 4, 5, 6]

    settings = settings_in(tmp_path / "parts")
    first = trainer_of(settings)
    reports = list(first.run(Moments(), None, stopping=lambda: first.progress.step == 3))
    second = trainer_of(settings)
    second.resume(checkpoints(tmp_path / "parts" / "ckpt")[-1])
    reports += list(second.run(Moments(), None))

    assert [report.losses for report in reports] == [report.losses for report in expected]
    assert untimed(reports) == untimed(expected)
    found = weights_of(second)
    for name, values in weights_of(whole).items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert [path.name for path in checkpoints(tmp_path / "parts" / "ckpt")] == [
        "step-00000004.safetensors",
        "step-00000006.safetensors",
    ]


@pytest.mark.slow
def test_accumulating_two_passes_equals_one_large_pass(tmp_path: Path) -> None:
    at_once = trainer_of(settings_in(tmp_path / "once", batch_size=4, steps=3))
    twice = trainer_of(settings_in(tmp_path / "twice", batch_size=2, accumulation=2, steps=3))
    for one, other in zip(at_once.run(Moments(), None), twice.run(Moments(), None), strict=True):
        assert other.losses.loss == pytest.approx(one.losses.loss, rel=1e-5)
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)
    found = weights_of(twice)
    for name, values in weights_of(at_once).items():
        np.testing.assert_allclose(found[name], values, atol=1e-4, err_msg=name)


@pytest.mark.slow
@pytest.mark.plain
def test_recompute_does_not_change_losses_and_weights(tmp_path: Path) -> None:
    plain = trainer_of(settings_in(tmp_path / "plain", steps=4))
    again = trainer_of(settings_in(tmp_path / "again", steps=4, recompute=True))
    for one, other in zip(plain.run(Moments(), None), again.run(Moments(), None), strict=True):
        assert other.losses.loss == pytest.approx(one.losses.loss, rel=0, abs=1e-6)
    found = weights_of(again)
    for name, values in weights_of(plain).items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-6, err_msg=name)


class OtherImages(Moments):
    """The same clips, but other still images."""

    def read(self, video: int, indices: list[int], *, mirror: bool) -> np.ndarray:
        values = super().read(video, indices, mirror=mirror)
        return values + 1 if len(indices) == 1 else values


@pytest.mark.slow
@pytest.mark.plain
def test_still_images_are_part_of_the_loss(tmp_path: Path) -> None:
    values = settings_in(tmp_path, steps=3).model_dump()
    values["data"]["use_image_num"] = 2
    settings = Settings.model_validate(values)
    model = trainer_of(settings)
    reports = list(model.run(Moments(), None))
    # The model starts by predicting zero: its error is the mean square of the noise, that of images included.
    seeds = [np.random.SeedSequence([settings.seed, 5, 0, place]) for place in range(2)]
    noise = [
        np.random.Generator(np.random.Philox(s)).standard_normal((4 + 2, 4, 8, 8), np.float32) for s in seeds
    ]
    assert reports[0].losses.mse == pytest.approx(np.square(noise, dtype=np.float64).mean(), rel=1e-5)
    other = trainer_of(settings)
    list(other.run(OtherImages(), None))
    found, expected = weights_of(other), weights_of(model)
    for name in ("final_layer.linear.weight", "blocks.0.attn.qkv.weight", "x_embedder.proj.weight"):
        assert np.abs(found[f"model/{name}"] - expected[f"model/{name}"]).max() > 1e-5, name


@pytest.mark.slow
def test_float16_skips_overflowing_steps_and_continues(tmp_path: Path) -> None:
    trainer = trainer_of(settings_in(tmp_path, dtype="float16", steps=3))
    generator = np.random.default_rng(0)
    for parameter in trainer.model.trainable_params():  # at the start no gradient reaches the blocks
        parameter.asnumpy()[...] += generator.normal(0, 0.05, parameter.shape)
    assert {tensor.dtype for tensor in trainer.tensors.values()} == {ms.float32}
    scale = replace(trainer.progress.loss_scale, value=2.0**40)
    trainer.progress = replace(trainer.progress, loss_scale=scale)
    before = weights_of(trainer)
    reports = list(trainer.run(Moments(), None, stopping=lambda: trainer.progress.step == 1))
    assert reports[0].loss_scale.value == 2.0**39
    assert reports[0].loss_scale.dropped == 1
    for name, values in weights_of(trainer).items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)
    trainer.progress = replace(trainer.progress, loss_scale=replace(scale, value=1024.0))
    reports = list(trainer.run(Moments(), None))
    assert [report.step for report in reports] == [2, 3]
    assert all(math.isfinite(report.grad_norm) for report in reports)
    assert (
        trainer.model.final_layer.linear.weight.asnumpy() != before["model/final_layer.linear.weight"]
    ).any()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path: Path) -> None:
    trainer = trainer_of(settings_in(tmp_path, steps=6))
    stream = trainer.run(Moments(), None)
    for _ in range(3):
        next(stream)
    trainer.model.final_layer.linear.bias.asnumpy()[0] = np.nan
    with pytest.raises(LatteError, match=r"^train: the loss is nan .* at step 4: stopped"):
        next(stream)
    assert [path.name for path in checkpoints(tmp_path / "ckpt")] == ["step-00000002.safetensors"]


def test_a_full_disk_gives_a_one_line_error_and_no_partial_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(save, "_write_safetensors", fail)
    with pytest.raises(LatteError) as caught:
        state.save_state(tmp_path / "ckpt", {}, Progress(), keep=1, collective=Collective(World(), print))
    path = tmp_path / "ckpt" / "step-00000000.safetensors"
    assert str(caught.value) == f"{path}: cannot be written: No space left on device"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_damaged_checkpoint_is_rejected(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, steps=1)
    list(trainer_of(settings).run(Moments(), None))
    path = checkpoints(tmp_path / "ckpt")[-1]
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(LatteError, match=r"step-00000001\.safetensors: damaged: .* its checksum"):
        trainer_of(settings).resume(path)
    path.write_bytes(content[:-100])
    with pytest.raises(LatteError, match=r"step-00000001\.safetensors: cannot be read as a checkpoint"):
        read_progress(path)


def test_resuming_rejects_settings_that_change_steps_and_accepts_others(tmp_path: Path) -> None:
    before = settings_in(tmp_path).model_dump(mode="json")
    free = settings_in(tmp_path / "other", keep=7, steps=9, recompute=True).model_dump(mode="json")
    assert not list(changes(before, free))
    changed = settings_in(tmp_path, learning_rate=2e-3, warmup_steps=3).model_dump(mode="json")
    assert list(changes(before, changed)) == [
        "train.learning_rate was 0.001, now 0.002",
        "train.warmup_steps was 0, now 3",
    ]
    with pytest.raises(LatteError, match=r"^x\.safetensors: .*warmup_steps was 0, now 3.*--allow-changes"):
        check_unchanged(Path("x.safetensors"), before, changed)


@pytest.mark.slow
def test_with_an_equal_global_batch_a_resumed_run_uses_the_same_clips(tmp_path: Path) -> None:
    expected = list(trainer_of(settings_in(tmp_path / "whole", batch_size=4)).run(Moments(), None))
    first = trainer_of(settings_in(tmp_path / "parts", batch_size=4))
    list(first.run(Moments(), None, stopping=lambda: first.progress.step == 3))
    second = trainer_of(settings_in(tmp_path / "parts", batch_size=1, accumulation=4))
    second.resume(checkpoints(tmp_path / "parts" / "ckpt")[-1])
    assert (second.progress.clips_taken, second.progress.global_batch) == (12, 4)
    found = [report.losses.loss for report in second.run(Moments(), None)]
    np.testing.assert_allclose(found, [report.losses.loss for report in expected[3:]], rtol=1e-5)
    with pytest.raises(
        LatteError, match=r"^x: the global batch was 4, now .* workers is 6\. .*--allow-changes"
    ):
        check_global_batch(Path("x"), 4, 6)


def test_a_run_can_be_extended_unless_the_rate_depends_on_its_length(tmp_path: Path) -> None:
    for schedule, found in (("constant", []), ("linear", ["train.steps was 6, now 9"])):
        before = settings_in(tmp_path, schedule=schedule).model_dump(mode="json")
        after = settings_in(tmp_path, schedule=schedule, steps=9).model_dump(mode="json")
        assert list(changes(before, after)) == found
