"""Evaluations that reuse the blocks' change, compared with the formulas in float64."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.diffusion.guidance import guided
from latte_cli.core.diffusion.reuse import scheduled
from latte_cli.core.diffusion.schedule import make_schedule
from latte_cli.core.models.latte.shape import LatteShape
from latte_cli.core.models.latte.transformer import Latte
from latte_cli.core.models.latte_t2v.shape import TextToVideoShape
from latte_cli.core.models.latte_t2v.transformer import LatteT2V, pack_text
from latte_cli.core.models.weights import load_weights
from latte_cli.core.sampling.denoise import Denoiser, Trajectory, sampler_walk
from latte_cli.core.settings.schema import DiffusionSettings
from tests.core.models.latte import reference as latte
from tests.core.models.latte_t2v import reference as latte_t2v

Array = NDArray[Any]
Formula = Callable[..., Array]
"""(x_t, timesteps, condition, change, made) in float64, as both references."""
TIMESTEPS = (990, 900, 700, 690, 400, 200)
FULL = (0, 2, 5)


def drawn(model: Any) -> dict[str, Array]:
    """Random weights for a model, loaded into it."""
    generator = np.random.default_rng(0)
    values = {p.name: generator.normal(0, 0.2, p.shape).astype(np.float32) for p in model.get_parameters()}
    load_weights(model, values, source="test")
    return {name: value.astype(np.float64) for name, value in values.items()}


def latte_case(condition: Any) -> tuple[Denoiser, Formula, Array, Array]:
    shape = LatteShape(
        hidden_size=24,
        depth=4,
        num_heads=2,
        patch_size=2,
        sample_size=4,
        num_frames=3,
        condition=condition,
        num_classes=5 if condition == "class" else None,
    )
    model = Latte(shape)
    weights = drawn(model)

    def formula(x_t: Array, timesteps: Array, states: Array, **reuse: Any) -> Array:
        return latte.forward(weights, shape, x_t, timesteps, states, **reuse)

    if condition == "text":
        texts = np.random.default_rng(1).standard_normal((2, 77, 768), np.float32) / 10
        return Denoiser(model), formula, texts[:1], texts[1:]
    return Denoiser(model), formula, np.array([3], np.int32), np.array([5], np.int32)


def text_to_video_case() -> tuple[Denoiser, Formula, Array, Array]:
    shape = TextToVideoShape(
        hidden_size=24, depth=2, num_heads=2, patch_size=2, caption_channels=6, sample_size=4, num_frames=3
    )
    model = LatteT2V(shape)
    weights = drawn(model)

    def formula(x_t: Array, timesteps: Array, states: Array, **reuse: Any) -> Array:
        return latte_t2v.forward(weights, shape, x_t, timesteps, states[..., :-1], states[..., -1], **reuse)

    states = np.random.default_rng(1).standard_normal((2, 7, 6)).astype(np.float32)
    texts = pack_text(states, np.array([[1] * 5 + [0] * 2, [1] + [0] * 6]))
    return Denoiser(model), formula, texts[:1], texts[1:]


CASES = {
    "latte": lambda: latte_case("none"),
    "classes": lambda: latte_case("class"),
    "text": lambda: latte_case("text"),
    "latte-t2v": text_to_video_case,
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Denoiser, Formula, Array, Array]:
    """A model, its formula, a condition and the null condition of guidance."""
    return CASES[request.param]()


def by_hand(
    formula: Formula, branches: list[Array], x_t: Array, full: tuple[int, ...]
) -> Iterator[list[Array]]:
    """Each evaluation's output of every branch; latents are multiplied by 1.1 after each evaluation."""
    changes: list[Array] = []
    for index, timestep in enumerate(TIMESTEPS):
        inputs = (x_t * (1 + index / 10), np.array([timestep]))
        if index in full:
            made: list[Array] = []
            yield [formula(*inputs, states, made=made) for states in branches]
            changes = made
        else:
            yield [
                formula(*inputs, states, change=change)
                for states, change in zip(branches, changes, strict=True)
            ]


def close(found: Array, wanted: Array) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_reuse_adds_the_kept_change_to_the_current_tokens(
    case: tuple[Denoiser, Formula, Array, Array],
) -> None:
    denoiser, formula, states, _ = case
    x_t = np.random.default_rng(3).standard_normal((1, *denoiser.clip_shape))
    model = scheduled(denoiser(states), FULL)
    everywhere = by_hand(formula, [states], x_t, tuple(range(len(TIMESTEPS))))
    for index, ((wanted,), (full,)) in enumerate(
        zip(by_hand(formula, [states], x_t, FULL), everywhere, strict=True)
    ):
        close(model(x_t * (1 + index / 10), np.array([TIMESTEPS[index]])), wanted)
        if index not in FULL:
            assert np.abs(wanted - full).max() > 1e-2 * np.abs(full).max()


def test_guidance_reuses_the_change_of_both_branches(case: tuple[Denoiser, Formula, Array, Array]) -> None:
    denoiser, formula, states, null_states = case
    x_t = np.random.default_rng(3).standard_normal((1, *denoiser.clip_shape))
    model = scheduled(guided(denoiser, states, null_states, 3.0), FULL)
    for index, (conditional, null) in enumerate(by_hand(formula, [states, null_states], x_t, FULL)):
        wanted = np.concatenate(
            [null[:, :, :4] + 3 * (conditional - null)[:, :, :4], conditional[:, :, 4:]], axis=2
        )
        close(model(x_t * (1 + index / 10), np.array([TIMESTEPS[index]])), wanted)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++"])
@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_a_clip_with_only_full_steps_has_the_bytes_of_one_without_a_schedule(
    case: tuple[Denoiser, Formula, Array, Array], sampler: str, guidance_scale: float
) -> None:
    denoiser, _, states, null_states = case
    walk = sampler_walk(sampler, make_schedule(DiffusionSettings(), "6"), eta=0.0)

    def clip(**how: Any) -> Array:
        *_, last = Trajectory(
            denoiser=denoiser,
            walk=walk,
            evaluations=6,
            condition=(states, null_states),
            seed=1,
            guidance_scale=guidance_scale,
            **how,
        ).denoise()
        return np.asarray(last.x_t)

    np.testing.assert_array_equal(clip(full_steps=tuple(range(6))), clip())
    np.testing.assert_array_equal(clip(full_steps=FULL), clip(full_steps=FULL))
    assert np.abs(clip(full_steps=FULL) - clip()).max() > 0
