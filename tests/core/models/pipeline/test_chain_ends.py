"""The first and last steps of a pipeline's schedulers, compared with diffusers (tests/golden/sizes)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.models.pipeline.configs import model_evaluations
from latte_cli.core.models.pipeline.scheduler import ddim_schedule, load_scheduler, walk
from latte_cli.core.sampling.denoise import sampler_walk
from tests.peers import golden_cases as cases

RECORDED = dict(np.load(Path(__file__).parents[3] / "golden" / "sizes" / "chains.npz"))
CLASSES = {"ddpm": "DDPMScheduler", "ddim": "DDIMScheduler", "dpm++": "DPMSolverMultistepScheduler"}


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_the_first_and_last_steps_match_diffusers(name: str) -> None:
    steps = 50
    config = {"_class_name": CLASSES[name], **cases.CHAIN, **cases.SCHEDULERS[name]}

    def model(x_t: NDArray[Any], timesteps: NDArray[Any]) -> NDArray[Any]:
        return cases.chain_output(x_t, float(timesteps[0]))

    x_t = cases.normal(0, cases.CHAIN_SHAPE)
    scheduler = load_scheduler(config, source="test")
    check(list(walk(scheduler, model, x_t, steps=steps, generator=cases.chain_generator)), name, steps)
    own = ddim_schedule(config, steps)
    assert (own is not None) == (name == "ddim")
    if own is not None:
        check(list(sampler_walk("ddim", own, eta=0.0)(model, x_t, cases.chain_generator)), name, steps)


def check(found: list[Any], name: str, steps: int) -> None:
    """Compare the first and last steps of a run with the recorded ones."""
    kept = found[: cases.CHAIN_KEPT] + found[-cases.CHAIN_KEPT :]
    assert [step.timestep for step in kept] == RECORDED[f"{name}-{steps}/timesteps"].tolist()
    for step, latents in zip(kept, RECORDED[f"{name}-{steps}/latents"], strict=True):
        assert np.abs(step.x_t - latents).max() <= 1e-5 * np.abs(latents).max()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "DDIM", "DDPM", "DEISMultistep", "DPMSolverMultistep", "DPMSolverSinglestep",
        "EulerAncestralDiscrete", "EulerDiscrete", "HeunDiscrete",
        "KDPM2AncestralDiscrete", "KDPM2Discrete", "PNDM", "UniPCMultistep",
    ],
)  # fmt: skip
@pytest.mark.parametrize("steps", [10, 50])
def test_the_number_of_evaluations_is_known_without_the_scheduler(name: str, steps: int) -> None:
    for options in ({}, {"skip_prk_steps": True}) if name == "PNDM" else ({},):
        config = {"_class_name": f"{name}Scheduler", **cases.CHAIN, **options}
        scheduler = load_scheduler(config, source="test")
        scheduler.set_timesteps(steps)
        assert model_evaluations(config, steps) == len(scheduler.timesteps)


@pytest.mark.parametrize(
    "change",
    [
        {"clip_sample": True},
        {"thresholding": True},
        {"prediction_type": "v_prediction"},
        {"timestep_spacing": "trailing"},
        {"set_alpha_to_one": False},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"steps_offset": 900},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_scheduler_other_than_that_of_latte_is_handled_by_mindone(change: dict[str, Any]) -> None:
    config = {"_class_name": "DDIMScheduler", **cases.CHAIN, **cases.SCHEDULERS["ddim"]}
    assert ddim_schedule(config, 50) is not None
    assert ddim_schedule(config | change, 50) is None
