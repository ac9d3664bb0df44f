"""Hidden states of a text: as stored, and as input of the model."""

from typing import Literal

import numpy as np

from latte_cli.core.arrays import Array

Kind = Literal["t5", "clip"]
MAX_TOKENS: dict[Kind, int] = {"t5": 120, "clip": 77}  # the length to which the originals pad and truncate


def states_to_store(states: Array, tokens: int, kind: Kind) -> Array:
    """The part of a text's states (max_tokens, width) to store; `tokens` is the length without padding.

    T5's padding is masked, so it is removed; CLIP's is part of Latte's input.
    """
    return states[:tokens] if kind == "t5" else states


def model_input(states: Array, kind: Kind) -> Array:
    """The model's input for stored states: `StepInputs.condition` of one clip, float32.

    CLIP, for Latte: the states of all tokens, (77, width). T5, for LatteT2V: states and mask, 1 at tokens,
    (120, width + 1); the masked rest is zero.
    """
    if kind == "clip":
        return states.astype(np.float32)
    packed = np.zeros((MAX_TOKENS[kind], states.shape[1] + 1), np.float32)
    packed[: len(states), :-1] = states
    packed[: len(states), -1] = 1
    return packed
