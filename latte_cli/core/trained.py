"""A run's transformer as a checkpoint left it, and what its prompts come to."""

import gc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.checkpoints.formats import open_weights
from latte_cli.core.checkpoints.mapping import load_latte, map_weights
from latte_cli.core.models.building import Transformer
from latte_cli.core.models.latte import Latte, load_weights
from latte_cli.core.models.latte_t2v import LatteT2V
from latte_cli.core.models.shape import VAE_FACTOR, resolve_model
from latte_cli.core.models.sizes import text_folder, text_to_video_shape
from latte_cli.core.models.text import TextEncoder, condition_of
from latte_cli.core.pipeline_sampling import LazyWeights
from latte_cli.core.settings import Settings

Array = NDArray[np.float32]


def load_trained(settings: Settings, checkpoint: Path) -> Transformer:
    """The transformer with a checkpoint's averaged weights. Raises LatteError when they do not fit it."""
    if settings.model.architecture == "latte":
        model = Latte(resolve_model(settings), num_timesteps=settings.diffusion.num_timesteps)
        load_weights(model, load_latte(checkpoint).read_all(), source=str(checkpoint))
        return model
    side = settings.data.image_size // VAE_FACTOR
    transformer = LatteT2V(text_to_video_shape(settings), size=(side, side))
    mapped = map_weights(open_weights(checkpoint, kind="t2v"), "t2v")
    load_weights(transformer, LazyWeights(mapped), source=str(checkpoint))
    return transformer


def encode_texts(settings: Settings, texts: Sequence[tuple[str, str]]) -> list[tuple[Array, Array]]:
    """What a model is told for each (prompt, negative prompt), and led away from, as in training.

    Every text is encoded once, and the encoder gone afterwards.
    """
    if not texts:
        return []
    folder = text_folder(settings)
    encoder = TextEncoder(folder, dtype=settings.text.dtype)
    known = {
        text: condition_of(encoder.encode(text), folder)
        for text in dict.fromkeys(text for pair in texts for text in pair)
    }
    del encoder
    gc.collect()
    return [(known[prompt], known[negative]) for prompt, negative in texts]
