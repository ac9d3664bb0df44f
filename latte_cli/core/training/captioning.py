"""Text conditions of a batch: the states of each clip's caption, or of the empty prompt."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from latte_cli.core.arrays import Array
from latte_cli.core.data.captions.files import NO_CAPTION, choose_caption
from latte_cli.core.data.clips.batches import Batch
from latte_cli.core.rng import Stream, draw


class CaptionSampler:
    """Chooses captions by video, drops some of them, and returns their states.

    states: the model's input for a text, (N, D), including the empty text. The choice among a video's
    captions depends on (seed, epoch, video), dropping on (seed, step, place), as for labels.
    """

    def __init__(
        self, captions: Mapping[str, Sequence[str]], states: Callable[[str], Array], *, dropout: float
    ):
        self.captions = captions
        self.places = {name: place for place, name in enumerate(captions)}
        self.states = states
        self.dropout = dropout

    def __call__(self, batch: Batch, *, num_frames: int, seed: int) -> Array:
        """(B, 1 + I, N, D) states: of the clip, then of I still images, each from its video's caption.

        The first `num_frames` frames are the clip's.
        """
        texts = [self.texts(batch, clip, num_frames, seed) for clip in range(len(batch.places))]
        return np.stack([np.stack([self.states(text) for text in row]) for row in texts])

    def texts(self, batch: Batch, clip: int, num_frames: int, seed: int) -> list[str]:
        """The texts of one clip and its still images."""
        frames = batch.drawn_from[clip]
        names = [frame.name for frame in (frames[0], *frames[num_frames:])]
        shares = draw(seed, Stream.DROPOUT, batch.step, int(batch.places[clip])).random(len(names))
        epoch = int(batch.epochs[clip])
        return [
            NO_CAPTION
            if share < self.dropout
            else choose_caption(self.captions[name], seed=seed, epoch=epoch, video=self.places[name])
            for name, share in zip(names, shares, strict=True)
        ]
