"""The training loss, compared with the PyTorch original and with float64 NumPy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.diffusion.losses import training_loss
from latte_cli.core.diffusion.schedule import Coefficients, make_schedule
from latte_cli.core.settings.schema import DiffusionSettings

GOLDEN = Path(__file__).parents[2] / "golden" / "diffusion"
STUB = dict(np.load(GOLDEN / "stub_model.npz"))
SCHEDULE = make_schedule(DiffusionSettings())

# The original's float32 KL is a small difference of values near 1. It is almost zero when predicting
# x_start at t = 999, where the recorded 8.8e-7 differs by 2.4e-8 from the same formula in float64.
VANISHING = 3e-8
Terms = tuple[NDArray[np.float32], ...]


def run(arrays: tuple[NDArray[Any], ...], compiled: bool = True, **options: Any) -> Terms:
    """(loss, mse, vb) of arrays (model_output, x_start, eps, columns)."""

    def loss(output: ms.Tensor, x_start: ms.Tensor, eps: ms.Tensor, columns: ms.Tensor) -> Any:
        return training_loss(output, x_start, eps, columns, **options)

    function: Callable[..., Any] = ms.jit(loss) if compiled else loss
    return tuple(term.asnumpy() for term in function(*(ms.Tensor(array) for array in arrays)))


def assert_terms(
    terms: Terms, golden: dict[str, NDArray[Any]], prefix: str, *, steps: NDArray[Any], atol: float = 0.0
) -> None:
    # At the first step the bound is a discretised likelihood, whose tails depend on rounding.
    rtol = np.where(steps == 0, 1e-3, 1e-4)
    names = [name for name in ("loss", "mse", "vb") if f"{prefix}.{name}" in golden]
    assert names
    for name in names:
        term, expected = terms[("loss", "mse", "vb").index(name)], golden[f"{prefix}.{name}"]
        assert term.dtype == np.float32
        assert (np.abs(term - expected) <= rtol * np.abs(expected) + atol).all(), (name, term, expected)


KINDS: dict[str, dict[str, Any]] = {
    "mse_learned": {},
    "rescaled_mse": {"kind": "rescaled_mse"},
    "kl": {"kind": "rescaled_kl"},
    "predict_xstart": {"target": "x_start"},
    "fixed_large": {"learn_sigma": False},
    "fixed_small": {"learn_sigma": False},
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_loss_matches_the_original(name: str, compiled: bool) -> None:
    channels = STUB["x_start"].shape[2]
    output = STUB["model_output"][:, :, :channels] if name.startswith("fixed") else STUB["model_output"]
    columns = SCHEDULE.training_columns(STUB["t"])
    terms = run((output, STUB["x_start"], STUB["noise"], columns), compiled, **KINDS[name])
    atol = VANISHING if name == "predict_xstart" else 0.0
    assert_terms(terms, STUB, f"loss_{name}", steps=STUB["t"], atol=atol)


@pytest.mark.parametrize("respacing", ["250", "ddim50"])
def test_the_loss_of_a_respaced_chain_matches_the_original(respacing: str) -> None:
    steps = STUB[f"respaced_{respacing}.t_index"]
    columns = make_schedule(DiffusionSettings(), respacing).training_columns(steps)
    terms = run((STUB["model_output"], STUB["x_start"], STUB["noise"], columns))
    assert_terms(terms, STUB, f"respaced_{respacing}.loss", steps=steps)


@pytest.mark.parametrize("name", ["tiny_class", "tiny_uncond"])
def test_the_loss_of_a_trained_model_matches_the_original(name: str) -> None:
    golden = dict(np.load(GOLDEN / f"{name}.npz"))
    columns = SCHEDULE.training_columns(golden["t"])
    terms = run((golden["model_output"], golden["x_start"], golden["noise"], columns))
    assert_terms(terms, golden, "loss", steps=golden["t"])


def test_compiled_and_eager_losses_are_equal() -> None:
    arrays = STUB["model_output"], STUB["x_start"], STUB["noise"], SCHEDULE.training_columns(STUB["t"])
    for compiled, eager in zip(run(arrays), run(arrays, compiled=False), strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=1e-6)


def exact_loss(
    output: NDArray[Any], kind: str, at: Coefficients, frozen: NDArray[Any] | None = None
) -> float:
    """The mean loss of the stub's rows in float64, as defined: the KL of two normals. Not for the first step.

    frozen: the model output that gives the mean in the bound.
    """
    x_start, eps = STUB["x_start"].astype(np.float64), STUB["noise"].astype(np.float64)
    channels = x_start.shape[2]
    mean_output = output[:, :, :channels]
    seen = mean_output if frozen is None else frozen[:, :, :channels]
    x_t = at.sqrt_alphas_cumprod * x_start + at.sqrt_one_minus_alphas_cumprod * eps
    guess = at.sqrt_recip_alphas_cumprod * x_t - at.sqrt_recipm1_alphas_cumprod * seen
    error = at.posterior_mean_coef1 * (x_start - guess)
    least = at.posterior_log_variance_clipped
    log_variance = np.log(at.fixed_large_variance)
    if output.shape[2] > channels:
        log_variance = least + (output[:, :, channels:] + 1) / 2 * (at.log_betas - least)
    gap = log_variance - least
    divergence = (gap - 1 + np.exp(-gap) + error**2 * np.exp(-log_variance)) / 2 / np.log(2)
    error_term = 0 if kind == "kl" else (mean_output - eps) ** 2
    return float((divergence + error_term).mean())


@pytest.mark.parametrize("kind", ["mse", "kl"])
def test_the_gradient_matches_the_formula(kind: str) -> None:
    steps = np.array([1, 60, 300, 800])
    at = SCHEDULE.at(steps, np.float64)
    output = STUB["model_output"].astype(np.float64)

    def loss(output: ms.Tensor, x_start: ms.Tensor, eps: ms.Tensor, columns: ms.Tensor) -> Any:
        return training_loss(output, x_start, eps, columns, kind=kind)[0].mean()

    arrays = STUB["model_output"], STUB["x_start"], STUB["noise"], SCHEDULE.training_columns(steps)
    gradient = ms.jit(ms.grad(loss))(*(ms.Tensor(array) for array in arrays)).asnumpy()
    generator = np.random.default_rng(0)
    for _ in range(40):
        place = tuple(generator.integers(size) for size in output.shape)
        nudge = np.zeros_like(output)
        nudge[place] = 1e-4
        # The bound trains only the variance, with the mean held constant; the squared error trains the mean.
        frozen = output if kind == "mse" else None
        higher, lower = (exact_loss(output + sign * nudge, kind, at, frozen) for sign in (1, -1))
        assert gradient[place] == pytest.approx((higher - lower) / 2e-4, rel=1e-3, abs=1e-8)


def test_the_bound_with_fixed_variance_matches_the_formula() -> None:
    steps = np.array([1, 60, 300, 800])
    output = STUB["model_output"][:, :, : STUB["x_start"].shape[2]]
    arrays = output, STUB["x_start"], STUB["noise"], SCHEDULE.training_columns(steps)
    loss, _, _ = run(arrays, kind="kl", learn_sigma=False)
    expected = exact_loss(output.astype(np.float64), "kl", SCHEDULE.at(steps, np.float64))
    assert loss.mean() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1e3, 1e15])
def test_the_gradient_is_finite_even_for_a_very_wrong_model(scale: float) -> None:
    steps = np.array([0, 0, 1, 999])
    output = STUB["model_output"].copy()
    output[:, :, : STUB["x_start"].shape[2]] *= scale

    def loss(output: ms.Tensor, x_start: ms.Tensor, eps: ms.Tensor, columns: ms.Tensor) -> Any:
        return training_loss(output, x_start, eps, columns)[0].mean()

    arrays = output, STUB["x_start"], STUB["noise"], SCHEDULE.training_columns(steps)
    value, gradient = ms.jit(ms.value_and_grad(loss))(*(ms.Tensor(array) for array in arrays))
    assert np.isfinite(value.asnumpy())
    assert np.isfinite(gradient.asnumpy()).all()


def test_the_loss_of_a_half_precision_output_is_computed_in_float32() -> None:
    columns = SCHEDULE.training_columns(STUB["t"])
    half = STUB["model_output"].astype(np.float16)
    for ours, expected in zip(
        run((half, STUB["x_start"], STUB["noise"], columns)),
        run((half.astype(np.float32), STUB["x_start"], STUB["noise"], columns)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, expected)


def exact_likelihood(output: NDArray[Any], at: Coefficients) -> float:
    """The mean bound at the first step in float64: the likelihood of a level (Ho et al. 2020, eq. 13).

    The normal CDF is Page's approximation with tanh, as in the original.
    """
    x_start, eps = STUB["x_start"].astype(np.float64), STUB["noise"].astype(np.float64)
    channels = x_start.shape[2]
    x_t = at.sqrt_alphas_cumprod * x_start + at.sqrt_one_minus_alphas_cumprod * eps
    guess = at.sqrt_recip_alphas_cumprod * x_t - at.sqrt_recipm1_alphas_cumprod * output[:, :, :channels]
    mean = at.posterior_mean_coef1 * guess + at.posterior_mean_coef2 * x_t
    least = at.posterior_log_variance_clipped
    log_variance = np.log(at.fixed_large_variance)
    if output.shape[2] > channels:
        log_variance = least + (output[:, :, channels:] + 1) / 2 * (at.log_betas - least)
    std = np.exp(log_variance / 2)

    def cdf(z: NDArray[Any]) -> NDArray[Any]:
        return (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))) / 2

    upper = np.where(x_start > 0.999, 1, cdf((x_start + 1 / 255 - mean) / std))
    lower = np.where(x_start < -0.999, 0, cdf((x_start - 1 / 255 - mean) / std))
    return float(-np.log(upper - lower).mean() / np.log(2))


def test_the_likelihood_of_the_first_step_with_fixed_variance_matches_the_formula() -> None:
    steps = np.zeros(len(STUB["x_start"]), np.int64)
    output = STUB["noise"] + 0.3 * np.random.default_rng(0).standard_normal(STUB["noise"].shape, np.float32)
    arrays = output, STUB["x_start"], STUB["noise"], SCHEDULE.training_columns(steps)
    loss, _, _ = run(arrays, kind="kl", learn_sigma=False)
    expected = exact_likelihood(output.astype(np.float64), SCHEDULE.at(steps, np.float64))
    assert loss.mean() == pytest.approx(expected, rel=1e-4)


def test_the_rescaled_kinds_multiply_the_bound_by_the_number_of_timesteps() -> None:
    steps = np.array([1, 60, 300, 800])
    arrays = (
        *(STUB[name] for name in ("model_output", "x_start", "noise")),
        SCHEDULE.training_columns(steps),
    )
    _, error, bound = run(arrays)
    loss, _, rescaled = run(arrays, kind="rescaled_mse", num_timesteps=250)
    np.testing.assert_allclose(rescaled, bound / 4, rtol=1e-6)
    np.testing.assert_allclose(loss, error + bound / 4, rtol=1e-6)
    loss, _, _ = run(arrays, kind="rescaled_kl", num_timesteps=250)
    np.testing.assert_allclose(loss, 250 * bound, rtol=1e-5)


def test_the_likelihood_of_the_first_step_and_its_gradient_match_the_formula() -> None:
    steps = np.zeros(len(STUB["x_start"]), np.int64)
    at = SCHEDULE.at(steps, np.float64)
    # Near the noise, so that no level is in a tail.
    generator = np.random.default_rng(0)
    near = STUB["noise"] + 0.3 * generator.normal(size=STUB["noise"].shape)
    ranges = generator.uniform(-1, 1, size=near.shape)
    output = np.concatenate([near, ranges], axis=2).astype(np.float32)

    def loss(output: ms.Tensor, x_start: ms.Tensor, eps: ms.Tensor, columns: ms.Tensor) -> Any:
        return training_loss(output, x_start, eps, columns, kind="kl")[0].mean()

    arrays = output, STUB["x_start"], STUB["noise"], SCHEDULE.training_columns(steps)
    value, gradient = ms.jit(ms.value_and_grad(loss))(*(ms.Tensor(array) for array in arrays))
    exact = output.astype(np.float64)
    assert float(value.asnumpy()) == pytest.approx(exact_likelihood(exact, at), rel=1e-4)
    for _ in range(40):
        place = tuple(generator.integers(size) for size in output.shape)
        nudge = np.zeros_like(exact)
        nudge[place] = 1e-4
        higher, lower = (exact_likelihood(exact + sign * nudge, at) for sign in (1, -1))
        assert gradient.asnumpy()[place] == pytest.approx((higher - lower) / 2e-4, rel=2e-3, abs=1e-7)
