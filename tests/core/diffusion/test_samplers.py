"""The samplers, compared with single steps of the PyTorch original and with an exactly solvable case."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.diffusion.gaussian import predict
from latte_cli.core.diffusion.samplers import (
    SAMPLERS,
    Model,
    Place,
    Step,
    ddim,
    ddim_reverse,
    ddpm,
    walk,
)
from latte_cli.core.diffusion.schedule import Schedule, make_schedule
from latte_cli.core.settings.schema import DiffusionSettings, SamplerName

pytestmark = pytest.mark.plain

GOLDEN = Path(__file__).parents[2] / "golden" / "diffusion"
STUB = dict(np.load(GOLDEN / "stub_model.npz"))
CHAIN = make_schedule(DiffusionSettings())
STD = 0.5  # of Gaussian data, for which the noise is known exactly


def test_every_sampler_of_the_settings_exists() -> None:
    assert tuple(SAMPLERS) == get_args(SamplerName)


def no_noise(index: int) -> NDArray[Any]:
    raise AssertionError(f"step {index} asked for noise")


def place_of(row: int, clip_denoised: bool) -> Place:
    """A row of the stub as the input of a sampler's step."""
    one = slice(row, row + 1)
    at = CHAIN.at(STUB["t"][one])
    x_t = STUB["q_sample"][one]
    prediction = predict(STUB["model_output"][one], x_t, at, clip_denoised=clip_denoised)
    return Place(CHAIN, int(STUB["t"][row]), x_t, at, prediction, None)


@pytest.mark.parametrize("clip_denoised", [True, False])
@pytest.mark.parametrize("name", ["p_sample", "ddim_eta0.0", "ddim_eta1.0", "ddim_reverse"])
def test_a_step_matches_the_original(name: str, clip_denoised: bool) -> None:
    expected = STUB[f"{name}_clip{int(clip_denoised)}.sample"]
    for row, noise in enumerate(STUB["p_sample_noise"]):
        here = place_of(row, clip_denoised)
        if name == "p_sample":
            sample = ddpm(here, lambda noise=noise: noise[None], 0.0)
        elif name == "ddim_reverse":
            sample = ddim_reverse(here)
        else:
            sample = ddim(here, lambda noise=noise: noise[None], float(name.removeprefix("ddim_eta")))
        bound = 1e-5 * max(1, np.abs(expected[row]).max())
        np.testing.assert_allclose(sample[0], expected[row], rtol=0, atol=bound)


def gaussian_model(x_t: NDArray[Any], timesteps: NDArray[np.int64]) -> NDArray[Any]:
    """The exact noise when the data are N(0, STD^2)."""
    signal = CHAIN.tables.alphas_cumprod[timesteps].reshape(-1, 1, 1, 1, 1)
    return np.sqrt(1 - signal) * x_t / spread(signal)


def spread(signal: Any) -> Any:
    """Variance of x_t when the data are N(0, STD^2) and `signal` is abar_t."""
    return signal * STD**2 + 1 - signal


def errors(sampler: str, respacing: str, last_timestep: int) -> float:
    """The relative error of a sampler: the probability flow scales x_t by its standard deviation."""
    schedule = make_schedule(DiffusionSettings(), respacing)
    start = np.ones((1, 1, 1, 1, 1))
    steps = list(walk(SAMPLERS[sampler], gaussian_model, start, schedule, no_noise))
    place = schedule.timestep_map.tolist().index(last_timestep)
    reached = steps[-2 - place].x_t.item()  # a step has the latents after it
    first, last = schedule.tables.alphas_cumprod[[-1, place]]
    return abs(reached / np.sqrt(spread(last) / spread(first)) - 1)


def test_dpm_solver_is_second_order_and_ddim_first_order() -> None:
    # Steps of 20, 10, 5 and 4 timesteps, down to timestep 300, since the last step is of lower order.
    respacings, strides = ["ddim50", "ddim100", "ddim200", "ddim250"], np.array([20, 10, 5, 4])
    orders = {
        sampler: np.diff(np.log([errors(sampler, respacing, 300) for respacing in respacings]))
        / np.diff(np.log(strides))
        for sampler in ("dpm++", "ddim")
    }
    np.testing.assert_allclose(orders["dpm++"], 2, atol=0.2)
    np.testing.assert_allclose(orders["ddim"], 1, atol=0.2)


def test_twenty_steps_of_dpm_solver_are_more_accurate_than_twenty_of_ddim() -> None:
    assert errors("dpm++", "20", 0) < 0.5 * errors("ddim", "20", 0)


@pytest.mark.parametrize(("sampler", "eta"), [("ddpm", 0.0), ("ddim", 1.0), ("dpm++", 0.0)])
def test_the_last_step_draws_no_noise(sampler: str, eta: float) -> None:
    asked: list[int] = []

    def noise(index: int) -> NDArray[Any]:
        asked.append(index)
        return np.zeros((1, 1, 1, 1, 1))

    schedule = make_schedule(DiffusionSettings(), "4")
    list(walk(SAMPLERS[sampler], gaussian_model, np.ones((1, 1, 1, 1, 1)), schedule, noise, eta=eta))
    assert asked == ([] if sampler == "dpm++" else [0, 1, 2])


def test_ddim_follows_the_recursion_of_a_linear_model() -> None:
    schedule = make_schedule(DiffusionSettings(), "10")
    signals = schedule.tables.alphas_cumprod
    expected = 1.0
    for signal, before in zip(signals[::-1], np.append(1.0, signals[:-1])[::-1], strict=True):
        eps = np.sqrt(1 - signal) / spread(signal)  # per unit of x_t
        x_start = (1 - np.sqrt(1 - signal) * eps) / np.sqrt(signal)
        expected *= np.sqrt(before) * x_start + np.sqrt(1 - before) * eps
    *_, last = walk(ddim, gaussian_model, np.ones((1, 1, 1, 1, 1)), schedule, no_noise)
    assert last.x_t.item() == pytest.approx(expected, rel=1e-9)


def test_ddpm_with_an_exact_model_samples_the_data_distribution() -> None:
    schedule = make_schedule(DiffusionSettings(), "250")
    generator = np.random.default_rng(0)
    shape = (1, 1, 1, 200, 200)
    noise = [generator.standard_normal(shape) for _ in range(251)]
    *_, last = walk(ddpm, gaussian_model, noise[250], schedule, lambda index: noise[index])
    assert last.x_t.std() == pytest.approx(STD, rel=0.05)
    assert last.x_t.mean() == pytest.approx(0, abs=0.02)


def stub(x_t: NDArray[Any], timesteps: NDArray[np.int64]) -> NDArray[Any]:
    """An arbitrary model with a variance."""
    return np.concatenate([np.tanh(x_t + timesteps.reshape(-1, 1, 1, 1, 1) / 1000), np.sin(x_t)], axis=2)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_step_is_reported_and_float32_stays_float32(sampler: str) -> None:
    schedule = make_schedule(DiffusionSettings(), "10,5")
    asked: list[tuple[int, ...]] = []

    def watched(x_t: NDArray[Any], timesteps: NDArray[np.int64]) -> NDArray[Any]:
        assert x_t.dtype == np.float32
        assert timesteps.dtype == np.int64
        asked.append(tuple(timesteps))
        return stub(x_t, timesteps)

    x_t = STUB["noise"][:2]
    reports = list(walk(SAMPLERS[sampler], watched, x_t, schedule, lambda index: np.ones_like(x_t)))
    assert [report.index for report in reports] == list(range(15))
    assert {report.total for report in reports} == {15}
    assert [report.timestep for report in reports] == schedule.timestep_map[::-1].tolist()
    assert asked == [(report.timestep,) * 2 for report in reports]
    for report in reports:
        assert report.x_t.dtype == report.x_start.dtype == np.float32
        assert report.x_t.shape == report.x_start.shape == x_t.shape
    np.testing.assert_allclose(reports[-1].x_t, reports[-1].x_start, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_row_does_not_depend_on_other_rows(sampler: str) -> None:
    schedule = make_schedule(DiffusionSettings(), "5")
    noise = np.random.default_rng(0).standard_normal((5, *STUB["noise"].shape)).astype(np.float32)

    def ends(rows: slice) -> NDArray[Any]:
        *_, last = walk(
            SAMPLERS[sampler], stub, STUB["noise"][rows], schedule, lambda index: noise[index][rows], eta=1
        )
        return last.x_t

    np.testing.assert_array_equal(ends(slice(4))[1:2], ends(slice(1, 2)))


def test_clipping_keeps_every_prediction_in_range() -> None:
    def wild(x_t: NDArray[Any], timesteps: NDArray[np.int64]) -> NDArray[Any]:
        return -3 * x_t

    reports = run(wild, make_schedule(DiffusionSettings(), "5"), clip_denoised=True)
    assert all(np.abs(report.x_start).max() <= 1 for report in reports)
    assert np.abs(run(wild, make_schedule(DiffusionSettings(), "5"))[-1].x_start).max() > 1


def run(model: Model, schedule: Schedule, **options: Any) -> list[Step]:
    """Every step of ddim from the stub's noise."""
    return list(walk(ddim, model, STUB["noise"], schedule, no_noise, **options))


def test_ddim_reverse_undoes_a_short_ddim_step() -> None:
    timestep = 500
    x_t = np.ones((1, 1, 1, 1, 1))

    def seen(x_t: NDArray[Any], timestep: int) -> Place:
        at = CHAIN.at(np.array([timestep]), np.float64)
        output = gaussian_model(x_t, np.array([timestep]))
        return Place(CHAIN, timestep, x_t, at, predict(output, x_t, at), None)

    back = ddim(seen(x_t, timestep), lambda: x_t, 0.0)
    assert ddim_reverse(seen(back, timestep - 1)).item() == pytest.approx(1, abs=1e-4)
