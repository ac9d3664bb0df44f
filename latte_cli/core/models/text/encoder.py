"""Encode texts with T5 or CLIP and transformers' tokenizers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from latte_cli.core.arrays import Array
from latte_cli.core.data.captions.states import model_input, states_to_store
from latte_cli.core.errors import LatteError
from latte_cli.core.machine.device import device_in_use
from latte_cli.core.models.text.clip import ALIASES as CLIP_ALIASES
from latte_cli.core.models.text.clip import ClipConfig, clip_states
from latte_cli.core.models.text.folder import TextFolder
from latte_cli.core.models.text.opening import open_encoder
from latte_cli.core.models.text.operators import Operators
from latte_cli.core.models.text.t5 import ALIASES as T5_ALIASES
from latte_cli.core.models.text.t5 import T5Config, t5_states
from latte_cli.core.models.text.tokens import Tokenizer, Tokens
from latte_cli.core.storage.digests import digest_of_files

States: TypeAlias = Callable[[Sequence[Tokens]], Array]
"""Maps texts to states, (texts, tokens, width)."""


@dataclass(frozen=True)
class TextStates:
    """A text's states, (max_tokens, width) float32; those after the first `tokens` are padding."""

    states: NDArray[np.float32]
    tokens: int

    @property
    def mask(self) -> NDArray[np.float32]:
        """1 at the text's tokens, 0 at padding: (max_tokens,)."""
        return (np.arange(len(self.states)) < self.tokens).astype(np.float32)


class TextEncoder:
    """Encodes texts. A text's states do not depend on the other texts; on a CPU they are bit-identical.

    Weights are read from their files once per group of texts. `dtype` is the type of the products, ignored on
    a CPU, which uses float32. Raises LatteError if weights are missing or invalid.
    """

    def __init__(self, folder: TextFolder, *, dtype: str = "float32", clean_caption: bool = True):
        self.folder = folder
        self.tokenize = Tokenizer(folder, clean_caption=clean_caption)
        self.width = folder.width
        self._operators = operators_for(dtype)
        self._states = _t5(folder, self._operators) if folder.kind == "t5" else _clip(folder, self._operators)

    def encode(self, text: str) -> TextStates:
        """The states of one text."""
        return next(self.encode_all([text]))

    def encode_all(self, texts: Sequence[str]) -> Iterator[TextStates]:
        """The states of each text, encoded group by group."""
        for start in range(0, len(texts), self._operators.texts):
            group = [self.tokenize(text) for text in texts[start : start + self._operators.texts]]
            for tokens, states in zip(group, self._states(group), strict=True):
                yield TextStates(states, tokens.number)


def pipeline_states(
    text: TextStates, negative: TextStates
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A prompt and its negative as in diffusers' pipeline, both truncated to the prompt's length.

    Packed for the transformer, (max_tokens, width + 1) each; truncation uses the mask, so that all prompts
    have the same shape. A shorter negative prompt keeps the states of its padding.
    """
    mask = text.mask[:, None]
    return np.hstack([text.states, mask]), np.hstack([negative.states, mask])


def condition_of(text: TextStates, folder: TextFolder) -> NDArray[np.float32]:
    """The model's input for a text encoded by this folder's encoder, in training and sampling.

    CLIP, for Latte: the states of all tokens, (77, 768). T5, for LatteT2V: states and mask, (120, width + 1).
    """
    return model_input(states_to_store(text.states, text.tokens, folder.kind), folder.kind)


def encoder_digest(folder: TextFolder) -> str:
    """SHA-256 of the encoder's and the tokenizer's files, which identifies cached states."""
    names = ("*.safetensors", "*.bin", "*.model", "config.json", "vocab.json", "merges.txt")
    roots = (folder.encoder, folder.tokenizer)
    paths = sorted({path for root in roots for name in names for path in root.glob(name)})
    return digest_of_files(paths, named=True)


def _t5(folder: TextFolder, operators: Operators) -> States:
    config, weights = open_encoder(folder, T5Config, T5_ALIASES)

    def states(texts: Sequence[Tokens]) -> Array:
        ids = np.stack([tokens.ids for tokens in texts])
        numbers = np.array([tokens.number for tokens in texts])
        mask = np.arange(ids.shape[1]) < numbers[:, None]
        return t5_states(config, weights, operators, ids, mask)

    return states


def _clip(folder: TextFolder, operators: Operators) -> States:
    config, weights = open_encoder(folder, ClipConfig, CLIP_ALIASES)
    if config.max_position_embeddings < folder.max_tokens:
        found = f"max_position_embeddings: found {config.max_position_embeddings}"
        raise LatteError(f"{folder.encoder / 'config.json'}: {found}, expected at least {folder.max_tokens}")
    return lambda texts: clip_states(config, weights, operators, np.stack([tokens.ids for tokens in texts]))


def operators_for(dtype: str) -> Operators:
    """The operators of the device in use, with products in `dtype`, or float32 on a CPU."""
    if device_in_use() == "cpu":
        from latte_cli.core.models.text.numpy_operators import NumpyOperators

        return NumpyOperators()
    from latte_cli.core.models.text.mindspore_operators import MindSporeOperators

    return MindSporeOperators(dtype)
