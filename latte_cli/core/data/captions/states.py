"""A text's states as they are kept, and as a model is told them."""

from typing import Literal

import numpy as np

from latte_cli.core.arrays import Array

Kind = Literal["t5", "clip"]
MAX_TOKENS: dict[Kind, int] = {"t5": 120, "clip": 77}  # as the originals pad and cut


def kept(states: Array, tokens: int, kind: Kind) -> Array:
    """What is kept of a text's states (max_tokens, width), of which `tokens` are the text.

    T5's padding is masked, so it is cut off; CLIP's is part of what Latte reads.
    """
    return states[:tokens] if kind == "t5" else states


def told(states: Array, kind: Kind) -> Array:
    """What a model is told for kept states: `StepInputs.condition` of one clip, float32.

    CLIP, for Latte: the states of all tokens, (77, width). T5, for LatteT2V: states and mask, 1 at tokens,
    (120, width + 1); the masked rest is zero.
    """
    if kind == "clip":
        return states.astype(np.float32)
    packed = np.zeros((MAX_TOKENS[kind], states.shape[1] + 1), np.float32)
    packed[: len(states), :-1] = states
    packed[: len(states), -1] = 1
    return packed
