"""A run's transformer as a checkpoint left it, and what its prompts come to."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.checkpoints.mapping import load_latte, map_weights
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.errors import LatteError
from latte_cli.core.latents import VAE_FACTOR
from latte_cli.core.models.architectures import Transformer
from latte_cli.core.models.latte.transformer import Latte, load_weights
from latte_cli.core.models.latte_t2v.lora import load_lora, with_lora
from latte_cli.core.models.latte_t2v.transformer import LatteT2V
from latte_cli.core.models.shape import resolve_model
from latte_cli.core.models.sizes import shape_beside, text_folder, text_to_video_shape
from latte_cli.core.models.text.encoder import TextEncoder, condition_of
from latte_cli.core.sampling.from_pipeline import LazyWeights
from latte_cli.core.sampling.runs import changed_weights, changes_beside
from latte_cli.core.settings.schema import Settings
from latte_cli.core.training.starting import digest_of
from latte_cli.core.training.state import read_progress

Array = NDArray[np.float32]


def load_trained(settings: Settings, checkpoint: Path) -> Transformer:
    """The transformer with a checkpoint's averaged weights.

    Raises LatteError when they do not fit it, or the weights that low-rank changes belong to have changed.
    """
    if settings.model.architecture == "latte":
        model = Latte(resolve_model(settings), num_timesteps=settings.diffusion.num_timesteps)
        load_weights(model, load_latte(checkpoint).read_all(), source=str(checkpoint))
        return model
    shape, side = shape_beside(checkpoint) or text_to_video_shape(settings), settings.data.image_size
    shape = replace(
        shape, num_frames=settings.data.num_frames, num_timesteps=settings.diffusion.num_timesteps
    )
    transformer = LatteT2V(shape, size=(side // VAE_FACTOR, side // VAE_FACTOR))
    if settings.train.part == "lora":
        weights = _changed(settings, checkpoint)
    else:
        weights = LazyWeights(map_weights(open_weights(checkpoint, kind="t2v"), "t2v"))
    load_weights(transformer, weights, source=str(checkpoint))
    return transformer


def _changed(settings: Settings, checkpoint: Path) -> Mapping[str, Array]:
    """The weights that a run started from, with its low-rank changes added."""
    start, changes = changed_weights(settings), changes_beside(checkpoint)
    if checkpoint != changes and read_progress(checkpoint).base != digest_of(start):
        raise LatteError(f"{checkpoint}: train.init_from {start} holds other weights than those changed")
    base = LazyWeights(map_weights(open_weights(start, kind="t2v"), "t2v"))
    return with_lora(base, load_lora(changes), source=str(changes))


def encode_texts(settings: Settings, texts: Sequence[tuple[str, str]]) -> list[tuple[Array, Array]]:
    """What a model is told for each (prompt, negative prompt), and led away from, as in training.

    Every text is encoded once.
    """
    if not texts:
        return []
    folder = text_folder(settings)
    distinct = list(dict.fromkeys(text for pair in texts for text in pair))
    states = TextEncoder(folder, dtype=settings.text.dtype).encode_all(distinct)
    known = {text: condition_of(one, folder) for text, one in zip(distinct, states, strict=True)}
    return [(known[prompt], known[negative]) for prompt, negative in texts]
