"""Complete sampling runs and predictions of a real model with the PyTorch original's weights."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.diffusion.gaussian import q_sample
from latte_cli.core.diffusion.guidance import guided
from latte_cli.core.diffusion.samplers import SAMPLERS, walk
from latte_cli.core.diffusion.schedule import make_schedule
from latte_cli.core.models.latte.shape import LatteShape
from latte_cli.core.models.latte.transformer import Latte
from latte_cli.core.models.weights import load_weights
from latte_cli.core.sampling.denoise import Denoiser
from latte_cli.core.settings.schema import DiffusionSettings

GOLDEN = Path(__file__).parents[2] / "golden"
CONDITIONS = {1: "none", 2: "class", 78: "text"}  # the original's `extras`


@cache
def denoiser(name: str) -> Denoiser:
    """The averaged weights of a recorded model, as a function on the host."""
    folder = GOLDEN / "latte" / name
    config = json.loads((folder / "config.json").read_text())
    shape = LatteShape(
        hidden_size=config["hidden_size"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        patch_size=config["patch_size"],
        in_channels=config["in_channels"],
        sample_size=config["input_size"],
        num_frames=config["num_frames"],
        condition=CONDITIONS[config["extras"]],
        num_classes=config["num_classes"],
        learn_sigma=config["learn_sigma"],
    )
    model = Latte(shape)
    weights = open_weights(folder / "ckpt_train.pt", weights="ema")
    load_weights(model, {name: weights.read(name) for name in weights.names}, source=name)
    return Denoiser(model)


def labels(of: Any) -> NDArray[np.int32]:
    """Class labels as the model takes them."""
    return np.asarray(of, np.int32)


@pytest.mark.parametrize(
    "path", sorted((GOLDEN / "diffusion").glob("traj_*.npz")), ids=lambda path: path.stem
)
def test_every_step_of_a_complete_run_matches_the_original(path: Path) -> None:
    golden, run = np.load(path), json.loads(path.with_suffix(".json").read_text())
    model = denoiser(Path(run["model"]).parent.name)
    schedule = make_schedule(DiffusionSettings(), run["timestep_respacing"])
    np.testing.assert_array_equal(schedule.timestep_map, golden["timestep_map"])
    conditional, unconditional, scale = labels([0]), labels([0]), 1.0
    rows = len(golden["z"])
    if "y" in golden:
        # The original samples two copies of each clip, with different noise in ddpm; only the first is used.
        rows //= 2
        conditional, unconditional = np.split(labels(golden["y"]), 2)
        scale = float(golden["cfg_scale"])
    steps = walk(
        SAMPLERS[run["method"]],
        guided(model, conditional, unconditional, scale),
        golden["z"][:rows],
        schedule,
        lambda index: golden["noise"][index, :rows],
        eta=run["eta"] or 0.0,
        clip_denoised=run["clip_denoised"],
    )
    bound = 1e-4 * np.abs(golden["trajectory"]).max()
    for step, expected in zip(steps, golden["trajectory"][:, :rows], strict=True):
        np.testing.assert_allclose(step.x_t, expected, rtol=0, atol=bound, err_msg=f"step {step.index}")
        if step.index == 0:
            first = golden["first_pred_xstart"][:rows]
            np.testing.assert_allclose(step.x_start, first, rtol=0, atol=1e-4 * np.abs(first).max())
    np.testing.assert_allclose(step.x_t, golden["final"][:rows], rtol=0, atol=bound)


@pytest.mark.parametrize("scale", [1.0, 4.0, 7.5])
def test_guidance_matches_the_forward_pass_of_the_original(scale: float) -> None:
    folder = GOLDEN / "latte" / "class"
    inputs, golden = np.load(folder / "inputs.npz"), np.load(folder / "golden_ema.npz")
    conditional, unconditional = np.split(labels(inputs["y_cfg"]), 2)
    rows = len(conditional)
    model = guided(denoiser("class"), conditional, unconditional, scale)
    output = model(inputs["x_cfg"][:rows], inputs["t_cfg"][:rows])
    np.testing.assert_allclose(output, golden[f"out_cfg_{scale}"][:rows], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["class", "uncond"])
def test_predictions_on_noised_latents_match_the_original(name: str) -> None:
    golden = np.load(GOLDEN / "diffusion" / f"tiny_{name}.npz")
    columns = make_schedule(DiffusionSettings()).training_columns(golden["t"])
    x_t = q_sample(golden["x_start"], golden["noise"], columns)
    np.testing.assert_allclose(x_t, golden["x_t"], rtol=0, atol=1e-6)
    conditional = labels(golden["y"] if "y" in golden else [0] * len(x_t))
    output = denoiser(name)(conditional)(x_t, golden["t"])
    np.testing.assert_allclose(output, golden["model_output"], rtol=0, atol=1e-4)
