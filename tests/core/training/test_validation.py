"""The validation loss: its value, also with several workers, and that it does not change training."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mindspore import Tensor

from latte_cli.core.checkpoints.runs import checkpoints, chosen_checkpoint
from latte_cli.core.data.clips.part import PartSource, split
from latte_cli.core.diffusion.gaussian import q_sample
from latte_cli.core.errors import LatteError
from latte_cli.core.models.architectures import build_model
from latte_cli.core.models.weights import load_weights
from latte_cli.core.parallel.collective import Collective
from latte_cli.core.parallel.world import World
from latte_cli.core.settings.schema import Settings
from latte_cli.core.training.report import TrainReport
from latte_cli.core.training.state import read_progress
from latte_cli.core.training.trainer import Trainer
from latte_cli.core.training.validation import Validation, averaged_model
from tests.core.training.tiny_runs import trainer_of

NAMES = tuple(f"class{place % 2}/video{place}" for place in range(8))


@dataclass
class Moments:
    """Eight videos of 12 frames, as moments of 8 x 8 latents; records which videos are read."""

    content: str = "moments"
    names: tuple[str, ...] = NAMES
    frames: tuple[int, ...] = (12,) * 8
    labels: tuple[int, ...] = (0, 1) * 4
    seen: set[str] = field(default_factory=set)

    def read(self, video: int, indices: list[int], *, mirror: bool) -> np.ndarray:
        self.seen.add(self.names[video])
        values = np.random.default_rng(video).normal(size=(12, 8, 8, 8)).astype(np.float32)
        return values[indices] * (-1 if mirror else 1)


def settings_in(run_dir: Path, *, images: int = 0, **train: Any) -> Settings:
    sizes = {"batch_size": 2, "steps": 6, "learning_rate": 1e-2, "dtype": "float32", "log_every": 4}
    sizes |= {"checkpoint_every": 2, "keep": 2, "validate_every": 2, "validate_clips": 7}
    model = {"hidden_size": 24, "depth": 2, "num_heads": 2, "patch_size": 2}
    data = {"image_size": 64, "num_frames": 4, "frame_stride": 2, "use_image_num": images}
    return Settings.model_validate(
        {
            "run_dir": str(run_dir),
            "data": {**data, "random_flip": True, "validation": 0.3},
            "model": {**model, "condition": "class", "num_classes": 2, "condition_dropout": 0.5},
            "cache": {"mirror": True},
            "train": {**sizes, **train},
        }
    )


def parts(settings: Settings) -> tuple[PartSource, PartSource]:
    assert isinstance(settings.data.validation, float)
    source = Moments()
    training, validation = (PartSource(source, places) for places in split(NAMES, settings.data.validation))
    return training, validation


def validation_of(
    trainer: Trainer,
    source: Any,
    *,
    settings: Settings | None = None,
    collective: Collective | None = None,
) -> Validation:
    weights = trainer.optimizer.averaged(trainer.model.get_parameters())
    found = Validation(
        settings or trainer.settings,
        averaged_model(trainer.settings, weights),
        source,
        schedule=trainer.schedule,
        collective=collective or trainer.collective,
    )
    list(found.read(None))
    return found


def run(trainer: Trainer, **options: Any) -> list[TrainReport]:
    training, validation = parts(trainer.settings)
    validate = validation_of(trainer, validation)
    return list(trainer.run(training, None, validate=validate, **options))


def weights_of(trainer: Trainer) -> dict[str, bytes]:
    return {name: tensor.asnumpy().tobytes() for name, tensor in trainer.tensors.items()}


def losses_of(reports: list[TrainReport]) -> dict[int, float]:
    lines = [report.metrics for report in reports if report.metrics is not None]
    return {int(line["step"]): line["validation_loss"] for line in lines if "validation_loss" in line}


@dataclass
class Scripted:
    """Validation losses with a test's settings."""

    losses: Iterator[float]
    fingerprint: str = "clips"

    def __call__(self) -> float:
        return next(self.losses)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, list[TrainReport]]:
    """A run of six steps with validation at every second step."""
    trainer = trainer_of(settings_in(tmp_path_factory.mktemp("whole")))
    return trainer, run(trainer)


@pytest.mark.slow
@pytest.mark.plain
def test_validation_loss_matches_the_formulas_with_the_averaged_weights(
    whole: tuple[Trainer, list[TrainReport]],
) -> None:
    """Without learn_sigma the loss is the squared error of the noise alone."""
    settings = whole[0].settings
    model = settings.model.model_copy(update={"learn_sigma": False})
    trainer = trainer_of(settings.model_copy(update={"model": model}))
    list(trainer.run(parts(settings)[0], None))
    validation = validation_of(trainer, parts(settings)[1])
    averaged = build_model(trainer.settings)
    averages = trainer.optimizer.averaged(trainer.model.get_parameters())
    load_weights(averaged, {name: p.asnumpy() for name, p in averages.items()}, source="test")
    errors = []
    for batch in validation.clips:
        inputs = validation._inputs(batch)
        x_t = q_sample(inputs.x_start, inputs.eps, inputs.columns)
        output = averaged(*map(Tensor, (x_t, inputs.timesteps, inputs.condition))).asnumpy()
        errors += list(np.square(output.astype(np.float64) - inputs.eps).mean(axis=(1, 2, 3, 4)))
    assert validation() == pytest.approx(np.mean(errors[:7]), rel=1e-5)
    assert len(errors) == 8


@pytest.mark.slow
def test_timesteps_are_stratified_and_clips_not_mirrored_and_with_their_class(
    whole: tuple[Trainer, list[TrainReport]],
) -> None:
    trainer, _ = whole
    validation = validation_of(trainer, parts(trainer.settings)[1])
    inputs = [validation._inputs(batch) for batch in validation.clips]
    timesteps = np.concatenate([one.timesteps for one in inputs])[:7]
    assert (timesteps * 7 // 1000).tolist() == list(range(7))
    labels = np.concatenate([batch.class_labels for batch in validation.clips])
    assert np.array_equal(np.concatenate([one.condition[:, 0] for one in inputs]), labels)
    assert not any(frame.mirror for batch in validation.clips for clip in batch.drawn_from for frame in clip)


@pytest.mark.slow
def test_training_has_the_same_bits_with_and_without_validation(
    tmp_path: Path, whole: tuple[Trainer, list[TrainReport]]
) -> None:
    without = trainer_of(settings_in(tmp_path, validate_every=0))
    list(without.run(parts(without.settings)[0], None))
    assert weights_of(without) == weights_of(whole[0])


@pytest.mark.slow
def test_validation_loss_is_written_at_its_interval_and_decreases(
    whole: tuple[Trainer, list[TrainReport]],
) -> None:
    losses = losses_of(whole[1])
    assert list(losses) == [2, 4, 6]
    assert losses[6] < losses[2]
    assert [report.validation_loss for report in whole[1]] == [
        None,
        losses[2],
        losses[2],
        losses[4],
        losses[4],
        losses[6],
    ]


@pytest.mark.slow
def test_a_stopped_and_resumed_run_has_the_same_validation_losses(
    tmp_path: Path, whole: tuple[Trainer, list[TrainReport]]
) -> None:
    first = trainer_of(settings_in(tmp_path))
    reports = run(first, stopping=lambda: first.progress.step == 3)
    second = trainer_of(settings_in(tmp_path))
    second.resume(checkpoints(tmp_path / "ckpt")[-1])
    assert losses_of(reports + run(second)) == losses_of(whole[1])


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "batch_size"), [(2, 2), (2, 1), (3, 1), (1, 5)])
def test_validation_loss_does_not_depend_on_workers_and_batch_size(
    tmp_path: Path, whole: tuple[Trainer, list[TrainReport]], workers: int, batch_size: int
) -> None:
    """Here the sum over all workers returns a worker's own part; the test adds the parts."""
    trainer, reports = whole
    source = parts(trainer.settings)[1]
    settings = settings_in(tmp_path, batch_size=batch_size)
    shares = []
    for rank in range(workers):
        collective = Collective(World(rank, workers), lambda _: None)
        shares.append(validation_of(trainer, source, settings=settings, collective=collective)())
    assert sum(shares) == pytest.approx(losses_of(reports)[6], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("images", [0, 2])
def test_training_uses_no_clip_or_image_of_a_held_out_video(tmp_path: Path, images: int) -> None:
    settings = settings_in(tmp_path, images=images, steps=20, log_every=20, validate_every=20)
    training, validation = parts(settings)
    source = validation.source
    trainer = trainer_of(settings)
    validate = validation_of(trainer, validation)
    assert source.seen == set(validation.names)
    source.seen.clear()
    (last,) = losses_of(list(trainer.run(training, None, validate=validate)))
    assert last == 20
    assert source.seen == set(training.names)
    assert sorted(training.names + validation.names) == sorted(NAMES)


@pytest.mark.slow
def test_the_best_checkpoint_is_kept_also_by_a_resumed_run(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, keep_best=True, keep=1, checkpoint_every=100, steps=8)
    trainer = trainer_of(settings)
    training, _ = parts(settings)
    validate = Scripted(iter([0.5, 0.3, 0.4, 0.35]))
    list(trainer.run(training, None, validate=validate, stopping=lambda: trainer.progress.step == 5))
    assert [path.name for path in checkpoints(tmp_path / "ckpt")] == [
        "step-00000004.safetensors",
        "step-00000005.safetensors",
    ]
    second = trainer_of(settings)
    second.resume(checkpoints(tmp_path / "ckpt")[-1])
    list(second.run(training, None, validate=validate))
    assert [path.name for path in checkpoints(tmp_path / "ckpt")] == [
        "step-00000004.safetensors",
        "step-00000008.safetensors",
    ]
    best = read_progress(checkpoints(tmp_path / "ckpt")[-1]).best
    assert best is not None
    assert (best.step, best.loss) == (4, 0.3)


@pytest.mark.slow
def test_the_best_checkpoint_can_be_selected_by_name(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, keep_best=True, steps=4)
    list(trainer_of(settings).run(parts(settings)[0], None, validate=Scripted(iter([0.1, 0.2]))))
    folder = tmp_path / "ckpt"
    assert chosen_checkpoint(settings, None) == folder / "step-00000004.safetensors"
    assert chosen_checkpoint(settings, Path("best")) == folder / "step-00000002.safetensors"
    assert chosen_checkpoint(settings, Path("other")) == Path("other")
    without = settings_in(tmp_path / "without", steps=2)
    list(trainer_of(without).run(parts(without)[0], None))
    with pytest.raises(LatteError, match=r"^--checkpoint best: .*without: contains none, expected a run"):
        chosen_checkpoint(without, Path("best"))


def test_whether_a_video_is_held_out_depends_only_on_its_name() -> None:
    names = [f"folder {place}/video.mp4" for place in range(1000)]
    _, held_out = split(names, 0.1)
    assert 70 <= len(held_out) <= 130  # three deviations of a binomial
    chosen = {names[place] for place in held_out}
    for others in (names[::2], list(reversed(names)), [*names, "new.mp4"]):
        assert {others[place] for place in split(others, 0.1)[1]} - {"new.mp4"} == chosen & set(others)
