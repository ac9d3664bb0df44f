import mindspore as ms
import numpy as np
import pytest

from latte_cli.core.diffusion.schedule import make_schedule
from latte_cli.core.settings.schema import DiffusionSettings
from latte_cli.core.training.inputs import StepInputs
from latte_cli.core.training.optimizer import AdamW
from latte_cli.core.training.step import GradientStep, add_gradients, global_norm
from tests.core.models.latte.golden import arrays, model_of

SCHEDULE = make_schedule(DiffusionSettings())


def recorded_inputs(golden: dict[str, np.ndarray], step: int) -> StepInputs:
    timesteps = golden[f"step{step}.t"]
    labels = golden.get(f"step{step}.y", np.zeros(len(timesteps)))
    columns = SCHEDULE.training_columns(timesteps)
    x_start, eps = golden[f"step{step}.x"], golden[f"step{step}.noise"]
    return StepInputs(x_start, eps, timesteps.astype(np.int32), columns, labels.astype(np.int32)[:, None])


@pytest.mark.parametrize("name", ["uncond", "class"])
def test_three_steps_of_adamw_and_ema_are_the_original_s(name: str) -> None:
    golden = arrays(name, "train_step.npz")
    model = model_of(name, "ema")
    gradient_step, optimizer = GradientStep(model), AdamW(list(model.get_parameters()))
    names = [parameter.name for parameter in optimizer.trained]
    for step in range(3):
        losses, gradients = gradient_step(recorded_inputs(golden, step))
        assert losses.loss == pytest.approx(golden["loss"][step], rel=1e-4)
        assert losses.mse == pytest.approx(golden[f"step{step}.mse"].mean(), rel=1e-4)
        assert losses.vb == pytest.approx(golden[f"step{step}.vb"].mean(), rel=1e-3)
        norm = global_norm(gradients)
        assert norm == pytest.approx(golden["grad_norm"][step], rel=1e-3)
        if step == 0:
            found = {key: gradient.asnumpy() for key, gradient in zip(names, gradients, strict=True)}
            for key, expected in zip(golden["grad0_names"], golden["grad0_norms"], strict=True):
                assert np.linalg.norm(found[key]) == pytest.approx(expected, rel=1e-3)
            for key in [key for key in golden if key.startswith("grad0.")]:
                np.testing.assert_allclose(
                    found[key.removeprefix("grad0.")],
                    golden[key],
                    rtol=0,
                    atol=1e-4 * np.abs(golden[key]).max(),
                )
        optimizer.apply(gradients, step, rate=1e-3, average=0.9, factor=1.0)
    parameters = {parameter.name: parameter for parameter in model.get_parameters()}
    averages = dict(zip(names, optimizer.averages, strict=True))
    for key in golden:
        kind, _, parameter = key.partition(".")
        if kind == "param3":
            np.testing.assert_allclose(parameters[parameter].asnumpy(), golden[key], rtol=0, atol=1e-4)
        if kind == "ema3":
            found = averages.get(parameter, parameters[parameter]).asnumpy()
            np.testing.assert_allclose(found, golden[key], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_gradients_of_a_scaled_loss_are_scaled_and_the_losses_are_not() -> None:
    golden = arrays("uncond", "train_step.npz")
    gradient_step = GradientStep(model_of("uncond", "ema"))
    plain, gradients = gradient_step(recorded_inputs(golden, 0))
    scaled, large = gradient_step(recorded_inputs(golden, 0), 1024.0)
    assert scaled == plain
    for one, other in zip(gradients, large, strict=True):
        np.testing.assert_allclose(other.asnumpy(), 1024 * one.asnumpy(), rtol=1e-5, atol=1e-6)


def test_gradients_add_up_and_their_norm_is_over_all_of_them() -> None:
    ones, twos = (ms.mutable((ms.Tensor([v, v], ms.float32), ms.Tensor([[v]], ms.float32))) for v in (1, 2))
    total = add_gradients(ones, twos)
    np.testing.assert_array_equal(total[0].asnumpy(), [3, 3])
    assert global_norm(total) == pytest.approx(np.sqrt(27))
