"""Everything random, drawn on the host from counters: never from a running state or a worker's rank.

A draw depends on (seed, what it is for, its counters) alone, so a resumed run repeats the uninterrupted one
and N workers draw what one worker would have drawn.
Philox: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a draw is for. Every run's reproducibility rests on the numbers: add new ones, never renumber."""

    ORDER = 0  # (epoch,): the order of the clips
    CROP = 1  # (step, place): where a clip starts in its video
    FLIP = 2  # (step, place): whether it is mirrored
    LATENT = 3  # (step, place): the draw from the autoencoder's moments
    TIMESTEP = 4  # (step, place)
    NOISE = 5  # (step, place): what is added to the clean latents
    DROPOUT = 6  # (step, place): whether the condition is dropped
    CAPTION = 7  # (epoch, video): which of several captions
    IMAGE = 8  # (step, place): the still images of joint training
    SAMPLE = 9  # (sampling step,): noise of one sample, whose own seed is the seed
    INIT = 10  # (parameter's place,): initial weights
    STORED = 11  # (video's name, frame, mirrored): the draw that a cache of samples stores
    EVALUATE = 12  # (draw, real or generated): which clips an evaluation looks at


def draw(seed: int, stream: Stream, *counters: int) -> np.random.Generator:
    """A generator of its own for one purpose and its counters (all at least 0): the same in every process."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, int(stream), *counters])))
