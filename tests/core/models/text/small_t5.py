"""A T5 encoder for tests, and its formulas in float64."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

Double = NDArray[np.float64]
CONFIG = {
    "model_type": "t5",
    "vocab_size": 50,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 3,
    "num_heads": 4,
    "feed_forward_proj": "gated-gelu",
}
# The first distance of each row of the table of biases: transformers 4.57.1's _relative_position_bucket on
# PyTorch 2.13, for distances up to 2,000 with 32 buckets and a maximum distance of 128.
FIRST_DISTANCES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91)
ACTIVATIONS: dict[str, Any] = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
    "gelu_new": lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


def t5_weights(config: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Random weights with transformers' names, scaled to keep the states near 1."""
    generator = np.random.default_rng(0)
    width, inner = config["d_model"], config["num_heads"] * config["d_kv"]

    def normal(*shape: int, scale: float = 1.0) -> NDArray[np.float32]:
        return (scale * generator.standard_normal(shape)).astype(np.float32)

    weights = {
        "shared.weight": normal(config["vocab_size"], width),
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": normal(
            32, config["num_heads"]
        ),
        "encoder.final_layer_norm.weight": 1 + normal(width, scale=0.1),
    }
    gated = config["feed_forward_proj"].startswith("gated")
    for place in range(config["num_layers"]):
        attention, feed = (f"encoder.block.{place}.layer.{layer}" for layer in (0, 1))
        for name in "qkv":
            weights[f"{attention}.SelfAttention.{name}.weight"] = normal(inner, width, scale=width**-0.5)
        weights[f"{attention}.SelfAttention.o.weight"] = normal(width, inner, scale=inner**-0.5)
        for name in ("wi_0", "wi_1") if gated else ("wi",):
            weights[f"{feed}.DenseReluDense.{name}.weight"] = normal(config["d_ff"], width, scale=width**-0.5)
        weights[f"{feed}.DenseReluDense.wo.weight"] = normal(width, config["d_ff"], scale=width**-0.5)
        for layer in (attention, feed):
            weights[f"{layer}.layer_norm.weight"] = 1 + normal(width, scale=0.1)
    return weights


def save_config(folder: Path, config: dict[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(config))


def t5_formulas(
    config: dict[str, Any], weights: dict[str, NDArray[np.float32]], ids: NDArray[np.int32], number: int
) -> Double:
    """The states of one text's ids, of which `number` are looked at (Raffel et al. 2020; Shazeer 2020)."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}

    def norm(name: str, x: Double) -> Double:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * w[f"{name}.weight"]

    distance = np.arange(len(ids))[None] - np.arange(len(ids))[:, None]
    rows = np.searchsorted(FIRST_DISTANCES, np.abs(distance), side="right") - 1 + 16 * (distance > 0)
    bias = w["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"][rows].transpose(2, 0, 1)
    bias[..., number:] = -np.inf
    x = w["shared.weight"][ids]
    for place in range(config["num_layers"]):
        layer = f"encoder.block.{place}.layer.0"
        y = norm(f"{layer}.layer_norm", x)
        query, key, value = (
            (y @ w[f"{layer}.SelfAttention.{name}.weight"].T)
            .reshape(len(ids), config["num_heads"], -1)
            .swapaxes(0, 1)
            for name in "qkv"
        )
        scores = np.exp(query @ key.swapaxes(1, 2) + bias)
        mixed = (scores / scores.sum(-1, keepdims=True)) @ value
        x = x + mixed.swapaxes(0, 1).reshape(len(ids), -1) @ w[f"{layer}.SelfAttention.o.weight"].T
        layer = f"encoder.block.{place}.layer.1"
        y, dense = norm(f"{layer}.layer_norm", x), f"{layer}.DenseReluDense"
        if config["feed_forward_proj"] == "gated-gelu":
            gate = ACTIVATIONS["gelu_new"](y @ w[f"{dense}.wi_0.weight"].T)
            hidden = gate * (y @ w[f"{dense}.wi_1.weight"].T)
        else:
            hidden = ACTIVATIONS[config["feed_forward_proj"]](y @ w[f"{dense}.wi.weight"].T)
        x = x + hidden @ w[f"{dense}.wo.weight"].T
    return norm("encoder.final_layer_norm", x)
