"""Training runs of a tiny model on random moments."""

from pathlib import Path
from typing import Any

import numpy as np

from latte_cli.core.models.architectures import build_model
from latte_cli.core.settings.schema import Settings
from latte_cli.core.training.report import TrainReport
from latte_cli.core.training.starting import make_trainer
from latte_cli.core.training.trainer import Trainer


class Moments:
    """Two videos of 12 frames, as moments of latents 8 x 8."""

    content = "moments"
    names, frames, labels = ("a", "b"), (12, 12), (0, 1)

    def read(self, video: int, indices: list[int], *, mirror: bool) -> np.ndarray:
        values = np.random.default_rng(video).normal(size=(12, 8, 8, 8)).astype(np.float32)
        return values[indices]


def settings_in(run_dir: Path, **train: Any) -> Settings:
    sizes = {"batch_size": 2, "steps": 6, "learning_rate": 1e-3, "dtype": "float32", "log_every": 4}
    return Settings.model_validate(
        {
            "run_dir": str(run_dir),
            "data": {"image_size": 64, "num_frames": 4, "frame_stride": 2},
            "model": {
                "hidden_size": 24,
                "depth": 2,
                "num_heads": 2,
                "patch_size": 2,
                "condition": "class",
                "num_classes": 2,
            },
            "train": {**sizes, "checkpoint_every": 2, "keep": 2, **train},
        }
    )


def trainer_of(settings: Settings) -> Trainer:
    return make_trainer(settings, build_model(settings, dtype=settings.train.dtype))


def weights_of(trainer: Trainer) -> dict[str, np.ndarray]:
    return {name: tensor.asnumpy().copy() for name, tensor in trainer.tensors.items()}


def untimed(reports: list[TrainReport]) -> list[dict[str, float]]:
    lines = [report.metrics for report in reports if report.metrics is not None]
    timings = ("step_seconds", "frames_per_second")
    return [{name: value for name, value in line.items() if name not in timings} for line in lines]
