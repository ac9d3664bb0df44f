"""Clips drawn from the averaged weights while training goes on. They never change a run, nor end it."""

import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mindspore import Parameter

from latte_cli.core.clips import ClipFiles, write_clip
from latte_cli.core.diffusion.schedule import make_schedule
from latte_cli.core.errors import LatteError
from latte_cli.core.models.latte import Latte, load_weights
from latte_cli.core.models.shape import resolve_model
from latte_cli.core.sampling import Clip, Denoiser, denoise
from latte_cli.core.settings import Settings

if TYPE_CHECKING:
    from latte_cli.core.models.vae import Vae

log = logging.getLogger(__name__)

MOST_CLIPS = 3


class Previews:
    """Draws the first clips that `latte sample` would, of a run's averaged weights, into its samples/.

    `averages` by parameter name; `load` gives the autoencoder. From the first preview on it holds a model of
    its own, the weights once more, since the training step's must not change under it.
    """

    def __init__(self, settings: Settings, averages: Mapping[str, Parameter], load: "Callable[[], Vae]"):
        self.settings = settings
        self.averages = averages
        self.load = load
        self._model: Latte | None = None
        self._denoiser: Denoiser | None = None
        self._failed = False

    def draw(self, step: int, *, stopping: Callable[[], bool] = lambda: False) -> list[Path]:
        """Write the clips of `step` as mp4 and contact sheet, and give their paths; fewer when `stopping`.

        Whatever goes wrong is one warning, and the last that this run tries.
        """
        files: list[Path] = []
        if self._failed:
            return files
        try:
            for name, clip in islice(self._clips(), MOST_CLIPS):
                files += self._draw(f"step-{step:08d}-{name}", clip, stopping)
        except Exception as error:  # noqa: BLE001 (out of memory, a full disk, a lost file: no reason to end a run)
            self._failed = True
            log.warning("no preview of step %d, and none from here on: %s", step, _reason(error))
        return files

    def _clips(self) -> Iterator[tuple[str, Clip]]:
        """The clips of sample.num_samples by name: seeds and labels come in turn."""
        sample, classes = self.settings.sample, self.settings.model.num_classes
        for place in range(sample.num_samples):
            seed, label = sample.seed + place, None
            if classes is not None:
                labels = sample.class_labels or range(classes)
                label = labels[place % len(labels)]
            yield (
                f"{place:03d}-seed{seed}" + ("" if label is None else f"-class{label}"),
                Clip(seed, label),
            )

    def _draw(self, name: str, clip: Clip, stopping: Callable[[], bool]) -> list[Path]:
        settings, sample = self.settings, self.settings.sample
        schedule = make_schedule(settings.diffusion, sample.respacing or str(sample.steps))
        for step in denoise(self._denoiser_of_now(), clip, schedule, sample):
            latents = step.x_t[0]
            if stopping():
                return []
        from latte_cli.core.models.vae import to_uint8

        frames = to_uint8(self.load().decode(latents))
        target = ClipFiles(settings.run_dir / "samples", fps=sample.fps)
        return write_clip(target, name, latents=latents, frames=frames)

    def _denoiser_of_now(self) -> Denoiser:
        """A compiled model with the averaged weights as they are."""
        if self._model is None or self._denoiser is None:
            settings = self.settings
            self._model = Latte(resolve_model(settings), num_timesteps=settings.diffusion.num_timesteps)
            self._denoiser = Denoiser(self._model)
        values = {name: average.asnumpy() for name, average in self.averages.items()}
        load_weights(self._model, values, source="the averaged weights")
        return self._denoiser


def _reason(error: Exception) -> str:
    if isinstance(error, LatteError):
        return str(error)
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
