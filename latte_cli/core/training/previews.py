"""Clips sampled from the averaged weights during training. They never change or end a run."""

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
    """Samples the first clips of `latte sample` from a run's averaged weights, into its samples/.

    `weights`: averaged weights, and those that are not trained, by name; `load` returns the autoencoder. Uses
    a separate model, created for the first preview, because the model of the training step must not change.
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
        """Write the clips of `step` as mp4 and contact sheet and return their paths; fewer if `stopping`.

        Any error is logged as one warning and disables further previews.
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
            log.warning("no preview of step %d; previews are disabled: %s", step, _reason(error))
        return files

    def _clips(self) -> Iterator[RunClip]:
        """The clips to sample. Raises LatteError if a text-conditional model has no prompts."""
        settings, sample = self.settings, self.settings.sample
        lines = prompts_of(settings)
        if settings.model.condition == "text" and not lines:
            raise LatteError("sample.prompts: not set, expected prompts for previews")
        return islice(run_clips(settings, lines, sample.num_samples), MOST_CLIPS)

    def _condition(self, prompt: str) -> Condition:
        """The condition of a prompt; all prompts are encoded on the first call, then the encoder is freed."""
        if not self._texts:
            prompts = self.settings.sample.prompts[:MOST_CLIPS]
            negative = self.settings.sample.negative_prompt
            encoded = encode_prompts(self.settings, [(text, negative) for text in prompts])
            self._texts = dict(zip(prompts, encoded, strict=True))
        return self._texts[prompt]

    def _draw(self, name: str, denoiser: Denoiser, clip: RunClip, stopping: Callable[[], bool]) -> list[Path]:
        settings, sample = self.settings, self.settings.sample
        if clip.line is not None:
            condition = self._condition(clip.line.text)
        else:
            condition = class_condition(clip.class_label, denoiser.num_classes)
        conditional = clip.line is not None or denoiser.num_classes is not None
        evaluations, walk = walk_of(settings, sample)
        trajectory = Trajectory(
            denoiser=denoiser,
            walk=walk,
            evaluations=evaluations,
            condition=condition,
            seed=clip.seed,
            guidance_scale=guidance_of(sample, conditional=conditional),
            guidance_every=sample.guidance_every,
            # Evenly spaced: a calibration would be of other weights.
            full_steps=full_steps_of(sample, run_setup(settings, sample), None),
        )
        for step in trajectory.denoise():
            latents = step.x_t[0]
            if stopping():
                return []
        from latte_cli.core.data.videos.transforms import to_uint8

        frames = to_uint8(self.load().decode(latents))
        target = ClipFiles(settings.run_dir / "samples", fps=sample.fps)
        return write_clip(target, name, latents=latents, frames=frames)

    def _denoiser_of_now(self) -> Denoiser:
        """A compiled model with the current averaged weights."""
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
