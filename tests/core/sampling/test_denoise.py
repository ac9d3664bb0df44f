"""A text-to-video transformer as a function on the host: its condition is prepared once."""

from collections import Counter
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from numpy.typing import NDArray

from latte_cli.core.diffusion.samplers import Model
from latte_cli.core.diffusion.schedule import make_schedule
from latte_cli.core.kernels.waiting import Inference
from latte_cli.core.models.latte_t2v.shape import TextToVideoShape
from latte_cli.core.models.latte_t2v.transformer import LatteT2V, pack_text
from latte_cli.core.models.weights import load_weights
from latte_cli.core.sampling import denoise as sampling
from latte_cli.core.sampling.denoise import Denoiser, Trajectory, sampler_walk
from latte_cli.core.settings.schema import DiffusionSettings

pytestmark = pytest.mark.plain

Array = NDArray[np.float32]
SHAPE = TextToVideoShape(
    hidden_size=24, depth=2, num_heads=2, patch_size=2, caption_channels=6, sample_size=4, num_frames=3
)
SCHEDULE = make_schedule(DiffusionSettings(), "3")
TIMESTEPS = np.array([993])


def text(seed: int, length: int) -> Array:
    """One text of `length` tokens, padded to seven."""
    states = np.random.default_rng(seed).standard_normal((7, 6), np.float32)
    return pack_text(states, np.arange(7) < length)


STATES, NULL_STATES = text(1, 5), text(2, 1)


@pytest.fixture(scope="module")
def model() -> LatteT2V:
    """Random weights, so that the text changes the output."""
    model, generator = LatteT2V(SHAPE), np.random.default_rng(0)
    values = {p.name: generator.normal(0, 0.2, p.shape).astype(np.float32) for p in model.get_parameters()}
    load_weights(model, values, source="test")
    return model


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each function of a denoiser ran, by its name."""
    counter: Counter[str] = Counter()

    class Counted(Inference):
        def __init__(self, function: Any):
            super().__init__(function)
            self.name = function.__name__

        def __call__(self, *inputs: Any) -> Any:
            counter[self.name] += 1
            return super().__call__(*inputs)

    monkeypatch.setattr(sampling, "Inference", Counted)
    return counter


def latents(denoiser: Denoiser, guidance_scale: float, seed: int = 1) -> Array:
    walk, condition = sampler_walk("ddim", SCHEDULE, eta=0.0), (STATES[None], NULL_STATES[None])
    clip = Trajectory(
        denoiser=denoiser,
        walk=walk,
        evaluations=3,
        condition=condition,
        seed=seed,
        guidance_scale=guidance_scale,
    )
    *_, last = clip.denoise()
    return np.asarray(last.x_t)


@pytest.mark.slow
@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_the_text_of_a_clip_is_prepared_once_with_the_same_result(
    model: LatteT2V, calls: Counter[str], guidance_scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser = Denoiser(model)
    found = [latents(denoiser, guidance_scale, seed) for seed in (1, 2)]
    assert calls == {"prepare": 2, "predict": 6}
    whole = ms.jit(model.construct)

    def read_at_every_step(condition: Array) -> Model:
        return lambda x_t, timesteps: whole(
            Tensor(x_t.astype(np.float32)), Tensor(timesteps.astype(np.int32)), Tensor(condition[:, None])
        ).asnumpy()

    monkeypatch.setattr(Denoiser, "__call__", lambda self, condition: read_at_every_step(condition))
    for seed, clip in zip((1, 2), found, strict=True):
        expected = latents(denoiser, guidance_scale, seed)
        np.testing.assert_allclose(clip, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_a_prepared_text_does_not_change_when_another_is_prepared(model: LatteT2V) -> None:
    denoiser = Denoiser(model)
    x_t = np.random.default_rng(3).standard_normal((1, *denoiser.clip_shape), np.float32)
    conditioned = denoiser(STATES[None])
    first = conditioned(x_t, TIMESTEPS)
    other = denoiser(NULL_STATES[None])(x_t, TIMESTEPS)
    np.testing.assert_array_equal(conditioned(x_t, TIMESTEPS), first)
    assert np.abs(other - first).max() > 1e-3


@pytest.mark.slow
def test_fractional_timesteps_are_interpolated(model: LatteT2V) -> None:
    conditioned = Denoiser(model)(STATES[None])
    x_t = np.random.default_rng(3).standard_normal((1, 3, 4, 4, 4), np.float32)
    before, between, after = (conditioned(x_t, np.array([timestep])) for timestep in (10, 10.5, 11))
    assert 0 < np.abs(between - before).max() < np.abs(after - before).max()
