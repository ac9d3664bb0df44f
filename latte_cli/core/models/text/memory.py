"""Estimate T5's memory on a CPU from small files and headers. Does not import MindSpore."""

from math import prod

from latte_cli.core.models.text.folder import TextFolder
from latte_cli.core.models.text.numpy_operators import NumpyOperators
from latte_cli.core.models.text.opening import open_encoder
from latte_cli.core.models.text.t5 import ALIASES, TABLE, T5Config

FLOAT = 4  # bytes


def encoding_memory(folder: TextFolder, texts: int) -> int:
    """Bytes for encoding `texts` texts: the largest matrix, and the values of a group of texts.

    Raises LatteError if weights are missing or do not match config.json.
    """
    config, weights = open_encoder(folder, T5Config, ALIASES)
    shapes = {name: shape for name, shape in config.shapes().items() if name != TABLE}
    matrix = weights.held_bytes(max(shapes, key=lambda name: prod(shapes[name])))
    tokens = folder.max_tokens
    # The two halves of a gate and their product; the state, the value added to it, and temporaries.
    values = tokens * (3 * config.d_ff + 5 * config.d_model) + config.num_heads * tokens**2
    return matrix + min(texts, NumpyOperators.texts) * values * FLOAT
