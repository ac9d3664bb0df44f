"""Clips drawn from the averaged weights while training goes on. They never change a run, nor end it."""

import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mindspore import Parameter

from latte_cli.core.data.captions.prompts import prompts_of
from latte_cli.core.errors import LatteError
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.models.architectures import build_model
from latte_cli.core.models.weights import load_weights
from latte_cli.core.sampling.calibration import full_steps_of, run_setup
from latte_cli.core.sampling.denoise import Condition, Denoiser, Trajectory, class_condition
from latte_cli.core.sampling.from_run import RunClip, encode_prompts, guidance_of, run_clips, walk_of
from latte_cli.core.sampling.write import ClipFiles, write_clip
from latte_cli.core.settings.schema import Settings

if TYPE_CHECKING:
    from latte_cli.core.models.vae.autoencoder import Vae

log = logging.getLogger(__name__)

MOST_CLIPS = 3


class Previews:
    """Draws the first clips that `latte sample` would, of a run's averaged weights, into its samples/.

    `weights`: the averaged ones, and those that are not trained, by name; `load` gives the autoencoder. From
    the first preview on it holds a model of its own, since the training step's must not change under it.
    """

    def __init__(self, settings: Settings, weights: Mapping[str, Parameter], load: "Callable[[], Vae]"):
        self.settings = settings
        self.weights = weights
        self.load = load
        self._model: Transformer | None = None
        self._denoiser: Denoiser | None = None
        self._texts: dict[str, Condition] = {}
        self._failed = False

    def draw(self, step: int, *, stopping: Callable[[], bool] = lambda: False) -> list[Path]:
        """Write the clips of `step` as mp4 and contact sheet, and give their paths; fewer when `stopping`.

        Whatever goes wrong is one warning, and the last that this run tries.
        """
        files: list[Path] = []
        if self._failed:
            return files
        try:
            clips = list(self._clips())
            denoiser = self._denoiser_of_now()
            for clip in clips:
                files += self._draw(f"step-{step:08d}-{clip.name}", denoiser, clip, stopping)
        except Exception as error:  # noqa: BLE001 (out of memory, a full disk, a lost file: no reason to end a run)
            self._failed = True
            log.warning("no preview of step %d, and none from here on: %s", step, _reason(error))
        return files

    def _clips(self) -> Iterator[RunClip]:
        """The clips that sampling would draw. Raises LatteError for a model of texts without any."""
        settings, sample = self.settings, self.settings.sample
        lines = prompts_of(settings)
        if settings.model.condition == "text" and not lines:
            raise LatteError("sample.prompts: found none, expected the texts to draw")
        return islice(run_clips(settings, lines, sample.num_samples), MOST_CLIPS)

    def _told(self, prompt: str) -> Condition:
        """What the model is told for a prompt; all are encoded the first time, and the encoder gone again."""
        if not self._texts:
            prompts = self.settings.sample.prompts[:MOST_CLIPS]
            negative = self.settings.sample.negative_prompt
            told = encode_prompts(self.settings, [(text, negative) for text in prompts])
            self._texts = dict(zip(prompts, told, strict=True))
        return self._texts[prompt]

    def _draw(self, name: str, denoiser: Denoiser, clip: RunClip, stopping: Callable[[], bool]) -> list[Path]:
        settings, sample = self.settings, self.settings.sample
        if clip.line is not None:
            condition = self._told(clip.line.text)
        else:
            condition = class_condition(clip.class_label, denoiser.num_classes)
        told = clip.line is not None or denoiser.num_classes is not None
        evaluations, walk = walk_of(settings, sample)
        trajectory = Trajectory(
            denoiser=denoiser,
            walk=walk,
            evaluations=evaluations,
            condition=condition,
            seed=clip.seed,
            guidance_scale=guidance_of(sample, told=told),
            guidance_every=sample.guidance_every,
            # Evenly spaced: a calibration would be of other weights.
            full_steps=full_steps_of(sample, run_setup(settings, sample), None),
        )
        for step in trajectory.denoise():
            latents = step.x_t[0]
            if stopping():
                return []
        from latte_cli.core.models.vae.autoencoder import to_uint8

        frames = to_uint8(self.load().decode(latents))
        target = ClipFiles(settings.run_dir / "samples", fps=sample.fps)
        return write_clip(target, name, latents=latents, frames=frames)

    def _denoiser_of_now(self) -> Denoiser:
        """A compiled model with the averaged weights as they are."""
        if self._model is None or self._denoiser is None:
            self._model = build_model(self.settings)
            self._denoiser = Denoiser(self._model)
        values = {name: weight.asnumpy() for name, weight in self.weights.items()}
        load_weights(self._model, values, source="the averaged weights")
        return self._denoiser


def _reason(error: Exception) -> str:
    if isinstance(error, LatteError):
        return str(error)
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"
