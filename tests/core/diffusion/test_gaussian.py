"""The Gaussians of the process, compared with the PyTorch original for a model with a fixed output."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from latte_cli.core.diffusion.gaussian import (
    Prediction,
    eps_from_x_start,
    posterior_mean,
    predict,
    q_sample,
    x_start_from_eps,
)
from latte_cli.core.diffusion.schedule import make_schedule
from latte_cli.core.settings.schema import DiffusionSettings

GOLDEN = Path(__file__).parents[2] / "golden" / "diffusion"
STUB = dict(np.load(GOLDEN / "stub_model.npz"))
SCHEDULE = make_schedule(DiffusionSettings())
AT = SCHEDULE.at(STUB["t"])


def assert_equal(prediction: Prediction, prefix: str, golden: dict[str, np.ndarray] = STUB) -> None:
    fields = {
        "mean": "mean",
        "variance": "variance",
        "log_variance": "log_variance",
        "x_start": "pred_xstart",
    }
    for ours, theirs in fields.items():
        if f"{prefix}.{theirs}" in golden:
            expected = golden[f"{prefix}.{theirs}"]
            bound = 1e-4 * np.abs(expected).max() if ours == "x_start" else 1e-5
            np.testing.assert_allclose(
                getattr(prediction, ours), expected, rtol=0, atol=bound, err_msg=theirs
            )


def test_noised_latents_match_the_original() -> None:
    columns = SCHEDULE.training_columns(STUB["t"])
    x_t = q_sample(STUB["x_start"], STUB["noise"], columns)
    np.testing.assert_allclose(x_t, STUB["q_sample"], rtol=0, atol=1e-6)
    assert x_t.dtype == np.float32


def test_the_mean_and_variance_of_noised_latents_match_the_original() -> None:
    shape = STUB["q_mean"].shape
    np.testing.assert_allclose(AT.sqrt_alphas_cumprod * STUB["x_start"], STUB["q_mean"], rtol=1e-6)
    variance = np.broadcast_to(AT.sqrt_one_minus_alphas_cumprod**2, shape)
    np.testing.assert_allclose(variance, STUB["q_variance"], rtol=1e-5)
    log_variance = np.broadcast_to(AT.log_one_minus_alphas_cumprod, shape)
    np.testing.assert_allclose(log_variance, STUB["q_log_variance"], rtol=1e-6)


def test_the_posterior_matches_the_original() -> None:
    mean = posterior_mean(STUB["x_start"], STUB["q_sample"], AT)
    np.testing.assert_allclose(mean, STUB["post_mean"], rtol=0, atol=1e-5)
    for ours, theirs in (
        (AT.posterior_variance, "variance"),
        (AT.posterior_log_variance_clipped, "log_variance"),
    ):
        np.testing.assert_allclose(np.broadcast_to(ours, mean.shape), STUB[f"post_{theirs}"], rtol=1e-6)


@pytest.mark.parametrize("clip_denoised", [True, False])
def test_predictions_with_learned_variance_match_the_original(clip_denoised: bool) -> None:
    prediction = predict(STUB["model_output"], STUB["q_sample"], AT, clip_denoised=clip_denoised)
    assert_equal(prediction, f"pmv_clip{int(clip_denoised)}")


@pytest.mark.parametrize("fixed_variance", ["large", "small"])
def test_predictions_with_fixed_variance_match_the_original(
    fixed_variance: Literal["large", "small"],
) -> None:
    output = STUB["model_output"][:, :, : STUB["x_start"].shape[2]]
    prediction = predict(output, STUB["q_sample"], AT, fixed_variance=fixed_variance)
    assert_equal(prediction, f"pmv_fixed_{fixed_variance}")


@pytest.mark.parametrize("respacing", ["250", "ddim50"])
def test_predictions_of_a_respaced_chain_match_the_original(respacing: str) -> None:
    schedule = make_schedule(DiffusionSettings(), respacing)
    steps = STUB[f"respaced_{respacing}.t_index"]
    np.testing.assert_array_equal(schedule.timestep_map[steps], STUB[f"respaced_{respacing}.t_model"])
    prediction = predict(STUB["model_output"], STUB["q_sample"], schedule.at(steps))
    assert_equal(prediction, f"respaced_{respacing}.pmv")


@pytest.mark.parametrize("name", ["tiny_class", "tiny_uncond"])
def test_predictions_of_a_trained_model_match_the_original(name: str) -> None:
    golden = dict(np.load(GOLDEN / f"{name}.npz"))
    assert_equal(predict(golden["model_output"], golden["x_t"], SCHEDULE.at(golden["t"])), "pmv", golden)


def test_noise_and_clean_latents_are_computed_from_each_other() -> None:
    at = SCHEDULE.at(STUB["t"], np.float64)
    x_t, eps = STUB["q_sample"].astype(np.float64), STUB["noise"].astype(np.float64)
    np.testing.assert_allclose(
        eps_from_x_start(x_t, x_start_from_eps(x_t, eps, at), at), eps, rtol=0, atol=1e-9
    )
    exact = at.sqrt_alphas_cumprod * STUB["x_start"] + at.sqrt_one_minus_alphas_cumprod * eps
    np.testing.assert_allclose(x_start_from_eps(exact, eps, at), STUB["x_start"], rtol=0, atol=1e-9)


def test_a_model_that_predicts_clean_latents_is_supported() -> None:
    prediction = predict(STUB["x_start"], STUB["q_sample"], AT, target="x_start")
    np.testing.assert_array_equal(prediction.x_start, STUB["x_start"])
    np.testing.assert_allclose(prediction.mean, STUB["post_mean"], rtol=0, atol=1e-5)


def test_noising_tensors_in_a_compiled_function_gives_the_same_result() -> None:
    import mindspore as ms  # here, so that the other tests run without it

    arrays = STUB["x_start"], STUB["noise"], SCHEDULE.training_columns(STUB["t"])
    x_t = ms.jit(q_sample)(*(ms.Tensor(array) for array in arrays))
    np.testing.assert_allclose(x_t.asnumpy(), STUB["q_sample"], rtol=0, atol=1e-6)
