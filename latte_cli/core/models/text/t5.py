"""T5's encoder (Raffel et al. 2020; version 1.1: Shazeer 2020, gated GELU), reading one weight at a time."""

from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from latte_cli.core.arrays import Array
from latte_cli.core.models.text.config import EncoderConfig, Layers
from latte_cli.core.models.text.operators import Operators
from latte_cli.core.models.text.weights import Shapes, StreamedWeights

TABLE = "shared.weight"
ALIASES = {"shared.": "encoder.embed_tokens."}  # alternative name


class T5Config(EncoderConfig):
    """The fields of a `config.json` that define the encoder, with transformers' defaults."""

    vocab_size: PositiveInt = 32128
    d_model: PositiveInt = 512
    d_kv: PositiveInt = 64
    d_ff: PositiveInt = 2048
    num_layers: Layers = 6
    num_heads: PositiveInt = 8
    relative_attention_num_buckets: int = Field(default=32, ge=4, multiple_of=4)
    relative_attention_max_distance: PositiveInt = 128
    layer_norm_epsilon: PositiveFloat = 1e-6
    feed_forward_proj: str = "relu"

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layer has a gate, as in version 1.1."""
        return self.feed_forward_proj.startswith("gated-")

    @property
    def activation(self) -> str:
        # "gated-gelu" has always meant gelu_new.
        name = self.feed_forward_proj.removeprefix("gated-")
        return "gelu_new" if self.feed_forward_proj == "gated-gelu" else name

    def shapes(self) -> Shapes:
        inner = self.num_heads * self.d_kv
        shapes: dict[str, tuple[int, ...]] = {
            TABLE: (self.vocab_size, self.d_model),
            _position_bias(): (self.relative_attention_num_buckets, self.num_heads),
            "encoder.final_layer_norm.weight": (self.d_model,),
        }
        for place in range(self.num_layers):
            attention, feed = _layers(place)
            shapes |= {f"{attention}.SelfAttention.{name}.weight": (inner, self.d_model) for name in "qkv"}
            shapes[f"{attention}.SelfAttention.o.weight"] = (self.d_model, inner)
            for name in ("wi_0", "wi_1") if self.gated else ("wi",):
                shapes[f"{feed}.DenseReluDense.{name}.weight"] = (self.d_ff, self.d_model)
            shapes[f"{feed}.DenseReluDense.wo.weight"] = (self.d_model, self.d_ff)
            shapes |= {f"{layer}.layer_norm.weight": (self.d_model,) for layer in (attention, feed)}
        return shapes


def t5_states(
    config: T5Config,
    weights: StreamedWeights,
    operators: Operators,
    ids: NDArray[np.int32],
    mask: NDArray[np.bool_],
) -> Array:
    """The states of texts, (texts, tokens, d_model) float32, including padding.

    ids, mask: (texts, tokens); the mask is true at tokens to attend to.
    """
    table = weights(_position_bias())
    buckets = relative_buckets(
        ids.shape[1], config.relative_attention_num_buckets, config.relative_attention_max_distance
    )
    hidden = np.where(mask, np.float32(0), np.finfo(np.float32).min)
    bias = operators.array(table[buckets].transpose(2, 0, 1)[None] + hidden[:, None, None, :])
    x = operators.array(weights.rows(TABLE, ids))
    for place in range(config.num_layers):
        attention, feed = _layers(place)
        x = x + _attention(config, weights, operators, attention, x, bias)
        x = x + _feed_forward(config, weights, operators, feed, x)
    x = operators.rms_norm(x, weights("encoder.final_layer_norm.weight"), config.layer_norm_epsilon)
    weights.release()
    return operators.numbers(x)


def relative_buckets(tokens: int, buckets: int, max_distance: int) -> NDArray[np.int64]:
    """The row of the bias table for each query and key, (tokens, tokens).

    Half of the rows are for keys after the query. In each half, the first half has one row per distance; the
    others grow logarithmically up to `max_distance`. Computed in integers: a float32 logarithm can be
    slightly below a row's first distance.
    """
    half = buckets // 2
    exact = half // 2
    first = [*range(exact), *(_first_distance(row, half, max_distance, tokens) for row in range(exact, half))]
    row = np.array([bisect_right(first, distance) - 1 for distance in range(tokens)])
    relative = np.arange(tokens)[None, :] - np.arange(tokens)[:, None]
    return row[np.abs(relative)] + half * (relative > 0)


def _first_distance(row: int, half: int, max_distance: int, tokens: int) -> int:
    """The least n < tokens of log(n / exact) / log(max_distance / exact) (half - exact) >= row - exact."""
    exact = half // 2
    steps, step = half - exact, row - exact
    distance = exact
    while distance < tokens and distance**steps * exact**step < max_distance**step * exact**steps:
        distance += 1
    return distance


def _attention(
    config: T5Config, weights: StreamedWeights, operators: Operators, layer: str, x: Any, bias: Any
) -> Any:
    normal = operators.rms_norm(x, weights(f"{layer}.layer_norm.weight"), config.layer_norm_epsilon)
    query, key, value = (
        operators.linear(normal, weights(f"{layer}.SelfAttention.{name}.weight")) for name in "qkv"
    )
    mixed = operators.attend(query, key, value, bias=bias, heads=config.num_heads, scale=1)
    return operators.linear(mixed, weights(f"{layer}.SelfAttention.o.weight"))


def _feed_forward(
    config: T5Config, weights: StreamedWeights, operators: Operators, layer: str, x: Any
) -> Any:
    normal = operators.rms_norm(x, weights(f"{layer}.layer_norm.weight"), config.layer_norm_epsilon)
    dense = f"{layer}.DenseReluDense"
    first = f"{dense}.{'wi_0' if config.gated else 'wi'}.weight"
    hidden = operators.activate(config.activation, operators.linear(normal, weights(first)))
    if config.gated:
        hidden = hidden * operators.linear(normal, weights(f"{dense}.wi_1.weight"))
    # T5's largest numbers occur here; transformers also keeps this product in float32.
    return operators.linear(hidden, weights(f"{dense}.wo.weight"), wide=True)


def _layers(place: int) -> tuple[str, str]:
    block = f"encoder.block.{place}.layer"
    return f"{block}.0", f"{block}.1"


def _position_bias() -> str:
    return f"{_layers(0)[0]}.SelfAttention.relative_attention_bias.weight"
