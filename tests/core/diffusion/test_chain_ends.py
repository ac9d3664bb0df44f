"""The first and last steps of samplers, compared with diffusers' in float64 (tests/golden/sizes)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.diffusion.samplers import SAMPLERS, Step, walk
from latte_cli.core.diffusion.schedule import make_schedule
from latte_cli.core.settings.schema import DiffusionSettings
from tests.peers import golden_cases as cases

RECORDED = dict(np.load(Path(__file__).parents[2] / "golden" / "sizes" / "chains.npz"))


def run(name: str, dtype: Any) -> list[Step]:
    """Each step of a run over all 1,000 timesteps."""

    def model(x_t: NDArray[Any], timesteps: NDArray[Any]) -> NDArray[Any]:
        return cases.chain_output(x_t, float(timesteps[0]))

    def noise(index: int) -> NDArray[Any]:
        return cases.chain_noise(index).swapaxes(1, 2).astype(dtype)

    x_t = cases.normal(0, cases.CHAIN_SHAPE).astype(dtype)
    return list(walk(SAMPLERS[name], model, x_t, make_schedule(DiffusionSettings()), noise))


TOLERANCES = {
    # diffusers rounds this sampler's noise levels to float32, which is less accurate at the last steps.
    ("dpm++", np.float64): 5e-6,
    ("dpm++", np.float32): 5e-6,
    ("ddim", np.float64): 1e-9,
    ("ddim", np.float32): 5e-6,
    ("ddpm", np.float64): 1e-9,
    ("ddpm", np.float32): 5e-6,
}


@pytest.mark.parametrize(("name", "dtype"), TOLERANCES)
def test_the_first_and_last_steps_of_a_full_run_match_diffusers(name: str, dtype: Any) -> None:
    steps = run(name, dtype)
    expected, timesteps = RECORDED[f"{name}-1000/latents"], RECORDED[f"{name}-1000/timesteps"]
    kept = steps[: cases.CHAIN_KEPT] + steps[-cases.CHAIN_KEPT :]
    assert [step.timestep for step in kept] == timesteps.tolist()
    for step, latents in zip(kept, expected, strict=True):
        if name == "dpm++" and step.timestep < 2:
            continue  # our last step between two noise levels is of first order, see `dpm_solver`
        assert np.abs(step.x_t - latents).max() <= TOLERANCES[name, dtype] * np.abs(latents).max()
