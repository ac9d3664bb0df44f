"""The recorded transformer of diffusers: its path, weights, inputs and outputs (tests/golden/t2v)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from latte_cli.core.models.latte_t2v.shape import read_shape

GOLDEN = Path(__file__).parents[3] / "golden"
PIPELINE = GOLDEN / "t2v" / "pipeline"
FOLDER = PIPELINE / "transformer"
SHAPE = read_shape(FOLDER / "config.json")
CONFIG = json.loads((FOLDER / "config.json").read_text())
SIZE = {
    "hidden_size": CONFIG["num_attention_heads"] * CONFIG["attention_head_dim"],
    "depth": 2 * CONFIG["num_layers"],
    "num_heads": CONFIG["num_attention_heads"],
    "patch_size": CONFIG["patch_size"],
}
"""Its size as an experiment names it."""


def weights() -> dict[str, NDArray[np.float32]]:
    return load_file(FOLDER / "diffusion_pytorch_model.safetensors")


def golden() -> dict[str, Any]:
    recorded = dict(np.load(GOLDEN / "t2v" / "transformer_golden.npz"))
    return recorded | dict(np.load(GOLDEN / "t2v" / "vchitect_t2v_masked_golden.npz"))
