"""Estimate T5's memory and time on a CPU from small files and headers. Does not import MindSpore."""

from math import prod

from latte_cli.core.checkpoints.tensors import Shape
from latte_cli.core.models.text.folder import TextFolder
from latte_cli.core.models.text.opening import open_encoder
from latte_cli.core.models.text.t5 import ALIASES, TABLE, T5Config

FLOAT = 4  # bytes
AT_ONCE = 16  # texts that a CPU encodes together, to read the weights once for all
READING = 2.8e-9  # seconds to read a weight from memory and convert it to float32; measured with two cores


def encoding_memory(folder: TextFolder, texts: int) -> int:
    """Bytes for encoding `texts` texts: the largest matrix, and the values of a group of texts.

    Raises LatteError if weights are missing or do not match config.json.
    """
    config, weights = open_encoder(folder, T5Config, ALIASES)
    shapes = _matrices(config)
    matrix = weights.held_bytes(max(shapes, key=lambda name: prod(shapes[name])))
    tokens = folder.max_tokens
    # The two halves of a gate and their product; the state, the value added to it, and temporaries.
    values = tokens * (3 * config.d_ff + 5 * config.d_model) + config.num_heads * tokens**2
    return matrix + min(texts, AT_ONCE) * values * FLOAT


def encoding_work(folder: TextFolder, texts: int) -> tuple[float, int]:
    """Seconds of reading the weights, once per group of texts, and operations of the matrix products.

    Raises LatteError if weights are missing or do not match config.json.
    """
    config, _ = open_encoder(folder, T5Config, ALIASES)
    weights = sum(map(prod, _matrices(config).values()))
    groups = -(-texts // AT_ONCE)
    return groups * weights * READING, 2 * texts * folder.max_tokens * weights


def _matrices(config: T5Config) -> dict[str, Shape]:
    """Shapes of the weights that are read completely; of the embedding table only the texts' rows are."""
    return {name: shape for name, shape in config.shapes().items() if name != TABLE}
