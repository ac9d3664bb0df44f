"""The PyTorch peer matches the PyTorch original. `make bench-peers` runs this in the venv with torch."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_diffusion import Diffusion, Training
from torch_latte import Latte, guided
from torch_vae import Autoencoder

GOLDEN = Path(__file__).parents[1] / "golden"
SIZES = ("input_size", "patch_size", "hidden_size", "depth", "num_heads", "num_frames", "num_classes")
MODELS = ("uncond", "class", "variants")
KINDS = ("plain", "sdpa")


def read(path: str) -> dict[str, torch.Tensor]:
    """The arrays of an .npz, text left out."""
    with np.load(GOLDEN / path) as file:
        return {name: torch.tensor(file[name]) for name in file if file[name].dtype.kind != "U"}


def load(name: str, attention: str, weights: str = "ema") -> Latte:
    """A small model of the original with its weights."""
    config = json.loads((GOLDEN / "latte" / name / "config.json").read_text())
    model = Latte(**{size: config[size] for size in SIZES}, attention=attention)
    checkpoint = torch.load(GOLDEN / "latte" / name / "ckpt_train.pt", weights_only=True)
    model.load_state_dict(checkpoint[weights])
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_forward_and_guided_forward_equal_the_original(name: str, kind: str) -> None:
    inputs = read(f"latte/{name}/inputs.npz")
    for weights in ("ema", "model"):
        model, golden = load(name, kind, weights), read(f"latte/{name}/golden_{weights}.npz")
        labels = [inputs["y"]] if "y" in inputs else []
        output = model(inputs["x"], inputs["t"], *labels)
        assert (output - golden["out"]).abs().max() <= 1e-4
        for scale in (1.0, 4.0, 7.5):
            both = inputs.get("y_cfg")
            output = guided(model, scale)(inputs["x_cfg"], inputs["t_cfg"], both)
            assert (output - golden[f"out_cfg_{scale}"]).abs().max() <= 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["uncond", "class"])
def test_three_training_steps_equal_the_original(name: str, kind: str) -> None:
    golden, model = read(f"latte/{name}/train_step.npz"), load(name, kind)
    training = Training(model, copy.deepcopy(model), rate=1e-3, decay=0.9)
    for step in range(3):
        labels = [golden[f"step{step}.y"]] if f"step{step}.y" in golden else []
        inputs = [golden[f"step{step}.{what}"] for what in ("x", "t", "noise")]
        losses = training.step(*inputs, *labels)
        np.testing.assert_allclose(losses["loss"], golden["loss"][step], rtol=1e-4)
        np.testing.assert_allclose(losses["grad_norm"], golden["grad_norm"][step], rtol=1e-3)
    for prefix, trained in (("param3.", model), ("ema3.", training.average)):
        for place, value in trained.named_parameters():
            if prefix + place in golden:
                np.testing.assert_allclose(value.detach(), golden[prefix + place], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_guided_ddpm_run_ends_where_the_original_ends(kind: str) -> None:
    golden, model = read("diffusion/traj_ddpm_cfg.npz"), load("class", kind)
    predict = guided(model, float(golden["cfg_scale"]))
    final = Diffusion(steps=10).sample(predict, golden["z"], golden["noise"], golden["y"])
    assert (final - golden["final"]).abs().max() <= 1e-4 * golden["trajectory"].abs().max()


def test_the_autoencoder_equals_diffusers() -> None:
    golden = read("vae/golden.npz")
    model = Autoencoder((4, 8, 8, 8), groups=2)
    model.load_state_dict(torch.load(GOLDEN / "vae" / "diffusion_pytorch_model.bin", weights_only=True))
    assert (model.encode(golden["x"]) - golden["moments_raw"]).abs().max() <= 1e-4
    assert (model.decode(golden["z"]) - golden["decoded"]).abs().max() <= 1e-4
