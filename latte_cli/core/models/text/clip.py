"""CLIP's text encoder (Radford et al. 2021), reading one weight at a time."""

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt, model_validator

from latte_cli.core.arrays import Array
from latte_cli.core.models.text.config import EncoderConfig, Layers
from latte_cli.core.models.text.operators import Operators
from latte_cli.core.models.text.weights import Shapes, StreamedWeights

ROOT = "text_model."
ALIASES = {ROOT: ""}  # some files omit it


class ClipConfig(EncoderConfig):
    """The fields of a `config.json` that define the encoder, with transformers' defaults."""

    vocab_size: PositiveInt = 49408
    hidden_size: PositiveInt = 512
    intermediate_size: PositiveInt = 2048
    num_hidden_layers: Layers = 12
    num_attention_heads: PositiveInt = 8
    max_position_embeddings: PositiveInt = 77
    layer_norm_eps: PositiveFloat = 1e-5
    hidden_act: str = "quick_gelu"

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "ClipConfig":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"{self.num_attention_heads} heads do not divide {self.hidden_size}")
        return self

    @property
    def activation(self) -> str:
        return self.hidden_act

    def shapes(self) -> Shapes:
        width, wide = self.hidden_size, self.intermediate_size
        shapes: dict[str, tuple[int, ...]] = {
            f"{ROOT}embeddings.token_embedding.weight": (self.vocab_size, width),
            f"{ROOT}embeddings.position_embedding.weight": (self.max_position_embeddings, width),
        }
        for place in range(self.num_hidden_layers):
            layer = _layer(place)
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                shapes |= _linear(f"{layer}.self_attn.{name}", width, width)
            shapes |= _linear(f"{layer}.mlp.fc1", wide, width) | _linear(f"{layer}.mlp.fc2", width, wide)
            shapes |= _norm(f"{layer}.layer_norm1", width) | _norm(f"{layer}.layer_norm2", width)
        return shapes | _norm(f"{ROOT}final_layer_norm", width)


def clip_states(
    config: ClipConfig, weights: StreamedWeights, operators: Operators, ids: NDArray[np.int32]
) -> Array:
    """The last layer's states after its norm, (texts, tokens, hidden_size) float32; ids: (texts, tokens)."""
    tokens = ids.shape[1]
    future = np.triu(np.full((tokens, tokens), np.finfo(np.float32).min, np.float32), 1)
    bias = operators.array(future[None, None])
    embedded = weights.rows(f"{ROOT}embeddings.token_embedding.weight", ids)
    positions = weights(f"{ROOT}embeddings.position_embedding.weight")[:tokens]
    layers = _Layers(config, weights, operators)
    x = operators.array(embedded + positions)
    for place in range(config.num_hidden_layers):
        layer = _layer(place)
        normal = layers.norm(f"{layer}.layer_norm1", x)
        query, key, value = (layers.linear(f"{layer}.self_attn.{name}_proj", normal) for name in "qkv")
        heads = config.num_attention_heads
        scale = 1 / sqrt(config.hidden_size // heads)
        mixed = operators.attend(query, key, value, bias=bias, heads=heads, scale=scale)
        x = x + layers.linear(f"{layer}.self_attn.out_proj", mixed)
        hidden = layers.linear(f"{layer}.mlp.fc1", layers.norm(f"{layer}.layer_norm2", x))
        x = x + layers.linear(f"{layer}.mlp.fc2", operators.activate(config.activation, hidden))
    x = layers.norm(f"{ROOT}final_layer_norm", x)
    weights.release()
    return operators.numbers(x)


class _Layers:
    """Layers by name."""

    def __init__(self, config: ClipConfig, weights: StreamedWeights, operators: Operators):
        self._weights, self._operators, self._eps = weights, operators, config.layer_norm_eps

    def linear(self, name: str, x: Any) -> Any:
        return self._operators.linear(x, self._weights(f"{name}.weight"), self._weights(f"{name}.bias"))

    def norm(self, name: str, x: Any) -> Any:
        weight, bias = self._weights(f"{name}.weight"), self._weights(f"{name}.bias")
        return self._operators.layer_norm(x, weight, bias, self._eps)


def _layer(place: int) -> str:
    return f"{ROOT}encoder.layers.{place}"


def _linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
