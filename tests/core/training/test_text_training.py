"""The trainer with a text-to-video transformer: its checkpoints, and resuming from them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from latte_cli.core.checkpoints.lora import load_lora
from latte_cli.core.checkpoints.mapping import LazyWeights, map_weights
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.data.clips.captioned import CaptionedSource
from latte_cli.core.errors import LatteError
from latte_cli.core.models.architectures import architecture_of, build_model
from latte_cli.core.models.latte_t2v.sizes import shape_next_to
from latte_cli.core.settings.schema import Settings
from latte_cli.core.training.captioning import CaptionSampler
from latte_cli.core.training.starting import make_trainer, set_start
from latte_cli.core.training.trainer import Trainer
from tests.core.models.latte_t2v.golden import PIPELINE, SIZE

TEXTS = ("", "a cat", "a dog", "the sea")
RANDOM = np.random.default_rng(0).standard_normal((4, 5, 17)).astype(np.float32)
RANDOM[:, :, -1] = [[1, 0, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]
STATES = dict(zip(TEXTS, RANDOM, strict=True))


class Moments:
    """Two videos of 12 frames, as moments of latents 8 x 8."""

    content = "moments"
    names, frames, labels = ("a", "b"), (12, 12), (None, None)

    def read(self, video: int, indices: list[int], *, mirror: bool) -> np.ndarray:
        values = np.random.default_rng(video).normal(size=(12, 8, 8, 8)).astype(np.float32)
        return values[indices]


SOURCE = CaptionedSource(Moments(), {"a": ("a cat", "a dog"), "b": ("the sea",)})


def settings_in(run_dir: Path, *, images: int = 0, **train: Any) -> Settings:
    sizes = {"batch_size": 2, "steps": 4, "learning_rate": 1e-3, "dtype": "float32", "log_every": 1}
    return Settings.model_validate(
        {
            "run_dir": str(run_dir),
            "data": {"image_size": 64, "num_frames": 3, "frame_stride": 2, "use_image_num": images},
            "text": {"encoder": str(PIPELINE)},
            "model": {**SIZE, "architecture": "latte-t2v", "condition": "text", "condition_dropout": 0.3},
            "train": {**sizes, "checkpoint_every": 1, "keep": 2, "lora_rank": 2, **train},
        }
    )


def trainer_of(settings: Settings) -> Trainer:
    model = build_model(settings, dtype=settings.train.dtype)
    if settings.train.init_from is not None:
        set_start(architecture_of(settings), model, settings.train.init_from)
    sampler = CaptionSampler(SOURCE.captions, STATES.__getitem__, dropout=settings.model.condition_dropout)
    return make_trainer(settings, model, captions=sampler)


def values_of(trainer: Trainer) -> dict[str, np.ndarray]:
    return {name: tensor.asnumpy().copy() for name, tensor in trainer.tensors.items()}


CASES = [
    {"part": "all"},
    {"part": "lora", "init_from": str(PIPELINE), "dtype": "float16", "images": 1},
    {"part": "temporal", "init_from": str(PIPELINE / "transformer"), "recompute": True},
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case["part"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """An uninterrupted run."""
    trainer = trainer_of(settings_in(tmp_path_factory.mktemp("whole"), **request.param))
    list(trainer.run(SOURCE, None))
    return trainer


@pytest.mark.slow
def test_a_stopped_and_resumed_run_has_the_bits_of_an_uninterrupted_one(
    whole: Trainer, tmp_path: Path
) -> None:
    settings = whole.settings.model_copy(update={"run_dir": tmp_path})
    first = trainer_of(settings)
    list(first.run(SOURCE, None, stopping=lambda: first.progress.step == 2))
    second = trainer_of(settings)
    second.resume(tmp_path / "ckpt" / "step-00000002.safetensors")
    list(second.run(SOURCE, None))
    found = values_of(second)
    for name, values in values_of(whole).items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.slow
def test_only_trained_parameters_change(whole: Trainer) -> None:
    part = whole.settings.train.part
    before = {p.name: p.asnumpy() for p in trainer_of(whole.settings).model.get_parameters()}
    changed = {
        parameter.name
        for parameter in whole.model.get_parameters()
        if not np.array_equal(parameter.asnumpy(), before[parameter.name])
    }
    expected = {"all": "", "temporal": "temporal_transformer_blocks.", "lora": ".lora_"}[part]
    assert changed
    assert all(expected in name for name in changed)
    if part != "all":
        assert changed == {name for name in before if expected in name}


@pytest.mark.slow
def test_a_checkpoint_next_to_its_config_is_a_transformer_for_sampling(whole: Trainer) -> None:
    path = whole.settings.run_dir / "ckpt" / "step-00000004.safetensors"
    assert shape_next_to(path) == whole.model.shape
    if whole.settings.train.part == "lora":  # only the adapters
        with pytest.raises(LatteError, match=r"step-00000004\.safetensors: "):
            map_weights(open_weights(path, kind="t2v"), "t2v")
        return
    weights = dict(LazyWeights(map_weights(open_weights(path, kind="t2v"), "t2v")))
    assert weights.keys() == {parameter.name for parameter in whole.model.get_parameters()}
    averages = values_of(whole)
    for name, values in weights.items():
        np.testing.assert_array_equal(values, averages[f"ema/{name}"], err_msg=name)


@pytest.mark.slow
def test_a_lora_run_stores_only_adapters_and_a_file_of_their_averages(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, part="lora", init_from=str(PIPELINE), lora_alpha=3.0)
    trainer = trainer_of(settings)
    list(trainer.run(SOURCE, None))
    folder = tmp_path / "ckpt"
    steps, changes = (sorted(path.name for path in folder.glob(f"{kind}-*")) for kind in ("step", "lora"))
    assert steps == ["step-00000003.safetensors", "step-00000004.safetensors"]
    assert changes == ["lora-00000003.safetensors", "lora-00000004.safetensors"]
    assert all(".lora_" in name for name in load_file(folder / steps[-1]))
    lora, averages = load_lora(folder / changes[-1]), values_of(trainer)
    assert {len(a) for a, _ in lora.factors.values()} == {2}
    assert set(lora.alphas.values()) == {3.0}
    for name, (a, b) in lora.factors.items():
        np.testing.assert_array_equal(a, averages[f"ema/{name}.lora_A.weight"])
        np.testing.assert_array_equal(b, averages[f"ema/{name}.lora_B.weight"])
    assert len(averages) == 4 * 2 * len(lora.factors)  # model, ema and two moments of both factors


@pytest.mark.slow
def test_recompute_changes_no_step(tmp_path: Path) -> None:
    losses = [
        [
            report.losses.loss
            for report in trainer_of(settings_in(tmp_path / str(again), recompute=again)).run(SOURCE, None)
        ]
        for again in (False, True)
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.plain
def test_a_step_with_overflowing_gradients_is_skipped_and_the_scale_halved(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, part="lora", init_from=str(PIPELINE), dtype="float16")
    trainer = trainer_of(settings)
    scale = replace(trainer.progress.loss_scale, value=2.0**40)
    trainer.progress = replace(trainer.progress, loss_scale=scale)
    before = values_of(trainer)
    reports = list(trainer.run(SOURCE, None, stopping=lambda: trainer.progress.step == 1))
    assert (reports[0].loss_scale.value, reports[0].loss_scale.dropped) == (2.0**39, 1)
    for name, values in values_of(trainer).items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)
