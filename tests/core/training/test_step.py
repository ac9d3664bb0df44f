from dataclasses import astuple

import numpy as np
import pytest
from mindspore import Parameter, Tensor

from latte_cli.core.diffusion.schedule import make_schedule
from latte_cli.core.kernels.optimizer import global_norm
from latte_cli.core.models.architecture import Transformer
from latte_cli.core.settings.schema import DiffusionSettings
from latte_cli.core.settings.training import TrainSettings
from latte_cli.core.training.inputs import StepInputs
from latte_cli.core.training.one_graph import OneGraph, pass_numbers
from latte_cli.core.training.optimizer import AdamW
from latte_cli.core.training.precision import LossScale
from latte_cli.core.training.step import GradientStep
from tests.core.models.latte.golden import arrays, model_of

pytestmark = pytest.mark.plain

SCHEDULE = make_schedule(DiffusionSettings())


def recorded_inputs(golden: dict[str, np.ndarray], step: int) -> StepInputs:
    timesteps = golden[f"step{step}.t"]
    labels = golden.get(f"step{step}.y", np.zeros(len(timesteps)))
    columns = SCHEDULE.training_columns(timesteps)
    x_start, eps = golden[f"step{step}.x"], golden[f"step{step}.noise"]
    return StepInputs(x_start, eps, timesteps.astype(np.int32), columns, labels.astype(np.int32)[:, None])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uncond", "class"])
def test_three_steps_of_adamw_and_ema_match_the_original(name: str) -> None:
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
            found = dict(zip(names, gradients, strict=True))
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
    averages = dict(zip(names, optimizer.averages, strict=True))
    check_weights(golden, model, averages)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["uncond", "class"])
def test_three_steps_in_one_graph_match_the_original(name: str) -> None:
    golden = arrays(name, "train_step.npz")
    model = model_of(name, "ema")
    train = TrainSettings(learning_rate=1e-3, dtype="float32", log_every=3)
    graph = OneGraph(model, AdamW(list(model.get_parameters())), train)
    graph.start(LossScale())
    for step in range(3):
        inputs = (*recorded_inputs(golden, step), pass_numbers(train, step, 0))
        graph(*map(Tensor, inputs))
    for step, (losses, norm, overflow) in enumerate(map(astuple, graph.read([0, 1, 2]))):
        assert losses[0] == pytest.approx(golden["loss"][step], rel=1e-4)
        assert norm == pytest.approx(golden["grad_norm"][step], rel=1e-3)
        assert not overflow
    check_weights(golden, model, {})


def check_weights(golden: dict[str, np.ndarray], model: Transformer, averages: dict[str, Parameter]) -> None:
    """Compare weights after three steps, and those of `averages`, with the recorded ones."""
    parameters = {parameter.name: parameter for parameter in model.get_parameters()}
    for key, expected in golden.items():
        kind, _, name = key.partition(".")
        if kind == "param3":
            np.testing.assert_allclose(parameters[name].asnumpy(), expected, rtol=0, atol=1e-4)
        if kind == "ema3" and averages:
            found = averages.get(name, parameters[name]).asnumpy()
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_loss_scale_scales_gradients_but_not_the_reported_losses() -> None:
    golden = arrays("uncond", "train_step.npz")
    gradient_step = GradientStep(model_of("uncond", "ema"))
    plain, gradients = gradient_step(recorded_inputs(golden, 0))
    scaled, large = gradient_step(recorded_inputs(golden, 0), 1024.0)
    assert scaled == plain
    for one, other in zip(gradients, large, strict=True):
        np.testing.assert_allclose(other, 1024 * one, rtol=1e-5, atol=1e-6)
