"""How much memory T5 takes to encode texts on a CPU, told from its small files and headers; no MindSpore."""

from math import prod

from latte_cli.core.models.text.folder import TextFolder
from latte_cli.core.models.text.numpy_operators import NumpyOperators
from latte_cli.core.models.text.opening import open_encoder
from latte_cli.core.models.text.t5 import ALIASES, TABLE, T5Config

FLOAT = 4  # bytes


def encoding_memory(folder: TextFolder, texts: int) -> int:
    """Bytes that encoding `texts` texts takes: the largest matrix, and the values of the texts of a group.

    Raises LatteError when weights are missing, or not those that config.json tells.
    """
    config, weights = open_encoder(folder, T5Config, ALIASES)
    shapes = {name: shape for name, shape in config.shapes().items() if name != TABLE}
    matrix = weights.held_bytes(max(shapes, key=lambda name: prod(shapes[name])))
    tokens = folder.max_tokens
    # The two halves of a gate and their product; the state, what is added to it, and their like.
    values = tokens * (3 * config.d_ff + 5 * config.d_model) + config.num_heads * tokens**2
    return matrix + min(texts, NumpyOperators.texts) * values * FLOAT
