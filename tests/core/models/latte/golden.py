"""The recorded Latte models: their shapes, weights, inputs and outputs."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from latte_cli.core.checkpoints.mapping import LazyWeights, load_latte
from latte_cli.core.models.latte.shape import LatteShape
from latte_cli.core.models.latte.transformer import Latte
from latte_cli.core.models.weights import load_weights

GOLDEN = Path(__file__).parents[3] / "golden" / "latte"
CONDITIONS = {1: "none", 2: "class"}  # the original's `extras`


def shape_of(name: str, **changes: Any) -> LatteShape:
    config = json.loads((GOLDEN / name / "config.json").read_text())
    sizes: dict[str, Any] = {
        "hidden_size": config["hidden_size"],
        "depth": config["depth"],
        "num_heads": config["num_heads"],
        "patch_size": config["patch_size"],
        "sample_size": config["input_size"],
        "num_frames": config["num_frames"],
        "condition": CONDITIONS[config["extras"]],
        "num_classes": config["num_classes"],
        "learn_sigma": config["learn_sigma"],
    }
    return LatteShape(**(sizes | changes))


def weights_of(name: str, section: str) -> dict[str, Any]:
    return dict(LazyWeights(load_latte(GOLDEN / name / "ckpt_train.pt", weights=section)))  # type: ignore[arg-type]


def model_of(name: str, section: str, **changes: Any) -> Latte:
    model = Latte(shape_of(name, **changes))
    load_weights(model, weights_of(name, section), source=name)
    return model


def arrays(name: str, file: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / name / file) as found:
        return dict(found)
