"""A run's transformer as a checkpoint left it, and what its prompts come to."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.checkpoints.runs import RunBase, base_weights, digest_of, lora_beside, read_run
from latte_cli.core.errors import LatteError
from latte_cli.core.models.architecture import Architecture, Transformer
from latte_cli.core.models.architectures import architecture_of
from latte_cli.core.models.conditions.encoder import text_folder
from latte_cli.core.models.lora import load_lora, with_lora
from latte_cli.core.models.text.encoder import TextEncoder, condition_of
from latte_cli.core.models.weights import load_weights
from latte_cli.core.settings.schema import Settings

Array = NDArray[np.float32]


def load_trained(settings: Settings, checkpoint: Path) -> Transformer:
    """The transformer with a checkpoint's averaged weights.

    Raises LatteError when they do not fit it, or the weights that low-rank changes belong to have changed.
    """
    architecture = architecture_of(settings)
    model = architecture.shell(settings, checkpoint)
    if settings.train.trains_lora:
        weights = _with_changes(architecture, settings, checkpoint)
    else:
        weights = architecture.read(checkpoint)
    load_weights(model, weights, source=str(checkpoint))
    return model


def _with_changes(architecture: Architecture, settings: Settings, checkpoint: Path) -> Mapping[str, Array]:
    """The weights that a run started from, with its low-rank changes added."""
    start, changes = base_weights(settings), lora_beside(checkpoint)
    if checkpoint != changes and read_run(checkpoint, RunBase).base != digest_of(start, architecture.layout):
        raise LatteError(f"{checkpoint}: train.init_from {start} holds other weights than those changed")
    return with_lora(architecture.read(start), load_lora(changes), source=str(changes))


def encode_prompts(settings: Settings, texts: Sequence[tuple[str, str]]) -> list[tuple[Array, Array]]:
    """What a model is told for each (prompt, negative prompt), and led away from, as in training.

    Every text is encoded once.
    """
    if not texts:
        return []
    folder = text_folder(settings)
    distinct = list(dict.fromkeys(text for pair in texts for text in pair))
    text = settings.text
    states = TextEncoder(folder, dtype=text.dtype, clean_caption=text.clean_caption).encode_all(distinct)
    known = {text: condition_of(one, folder) for text, one in zip(distinct, states, strict=True)}
    return [(known[prompt], known[negative]) for prompt, negative in texts]
