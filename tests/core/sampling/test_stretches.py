"""Errors of stretches of reuse, compared with complete clips sampled with one stretch each."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.diffusion.schedule import make_schedule
from latte_cli.core.models.latte.shape import LatteShape
from latte_cli.core.models.latte.transformer import Latte
from latte_cli.core.models.weights import load_weights
from latte_cli.core.sampling.denoise import Denoiser, Trajectory, class_condition, sampler_walk
from latte_cli.core.sampling.stretches import evaluations_of, longest_stretch, stretch_errors
from latte_cli.core.settings.schema import DiffusionSettings

STEPS = 6


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    shape = LatteShape(
        hidden_size=24, depth=2, num_heads=2, patch_size=2, sample_size=4, num_frames=3,
        condition="class", num_classes=2,
    )  # fmt: skip
    model, generator = Latte(shape), np.random.default_rng(0)
    values = {p.name: generator.normal(0, 0.2, p.shape).astype(np.float32) for p in model.get_parameters()}
    load_weights(model, values, source="test")
    return Denoiser(model)


def latents(clip: Trajectory) -> NDArray[Any]:
    *_, last = clip.denoise()
    return np.asarray(last.x_t, np.float64)


@pytest.mark.parametrize(("sampler", "guidance_scale"), [("ddpm", 3.0), ("dpm++", 1.0)])
def test_each_error_is_measured_with_one_stretch_of_reuse(
    denoiser: Denoiser, sampler: str, guidance_scale: float
) -> None:
    schedule = make_schedule(DiffusionSettings(), str(STEPS))
    clip = Trajectory(
        denoiser=denoiser,
        walk=sampler_walk(sampler, schedule, eta=0.0),
        evaluations=STEPS,
        condition=class_condition(1, 2),
        seed=3,
        guidance_scale=guidance_scale,
    )
    *_, last = stretch_errors(clip, 4)
    whole = latents(clip)
    for start in range(STEPS):
        for end in range(STEPS + 1):
            if not start < end <= start + 4:
                assert last.errors[start, end] == np.inf
                continue
            full = tuple(step for step in range(STEPS) if not start < step < end)
            wanted = np.abs(latents(replace(clip, full_steps=full)) - whole).mean()
            assert last.errors[start, end] == pytest.approx(wanted, rel=1e-4, abs=1e-9)
    assert last.done == evaluations_of(STEPS, 4)
    assert last.errors[0, 4] > 0


def test_the_longest_stretch_is_twice_the_mean_plus_one() -> None:
    assert [longest_stretch(50, fewest) for fewest in (25, 17, 49, 1)] == [5, 7, 5, 50]
