"""Counter-based random numbers, drawn on the host and independent of any generator state or worker rank.

A draw depends only on (seed, stream, counters), so a resumed run repeats the uninterrupted one and N workers
draw what one worker would have drawn.
Philox: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """The purpose of a draw. Reproducibility depends on the numbers: add new ones, never renumber."""

    ORDER = 0  # (epoch,): the order of the clips
    CROP = 1  # (step, place): where a clip starts in its video
    FLIP = 2  # (step, place): whether it is mirrored
    LATENT = 3  # (step, place): the sample from the autoencoder's moments
    TIMESTEP = 4  # (step, place)
    NOISE = 5  # (step, place): the noise added to the clean latents
    DROPOUT = 6  # (step, place): whether the condition is dropped
    CAPTION = 7  # (epoch, video): which of a video's captions is used
    IMAGE = 8  # (step, place): the still images of joint training
    SAMPLE = 9  # (sampling step,): noise of one sample; the seed is the sample's own
    INIT = 10  # (parameter's place,): initial weights
    STORED = 11  # (video's name, frame, mirrored): the sample stored by a cache of type sample
    EVALUATE = 12  # (draw, real or generated): which clips an evaluation uses
    VALIDATION = 13  # (): the seed of everything that a validation loss draws


def draw(seed: int, stream: Stream, *counters: int) -> np.random.Generator:
    """A generator for one stream and its counters (all at least 0), the same in every process."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, int(stream), *counters])))
