"""The parts of a command that are not steps, for its plan. Does not import MindSpore."""

from collections.abc import Sequence
from pathlib import Path

from latte_cli.core.checkpoints.autoencoder import open_autoencoder
from latte_cli.core.checkpoints.runs import chosen_checkpoint
from latte_cli.core.errors import LatteError
from latte_cli.core.models.architectures import sizes_of
from latte_cli.core.models.conditions.encoder import text_folder
from latte_cli.core.planning.cost import checkpoint_bytes
from latte_cli.core.planning.timing import Part, decoding, encoding_texts, hashing, starting
from latte_cli.core.settings.schema import Settings

ARRAYS = 4  # of a trained parameter: weight, average and AdamW's two moments
COMPILING = 0.8  # seconds per block, forward and backward
WRITING = 0.9e-9  # seconds per byte of a checkpoint


def sampling_parts(
    settings: Settings, checkpoint: Path | None, *, clips: int, texts: Sequence[str], decodes: bool
) -> tuple[Part, ...]:
    """Starting, hashing and encoding texts, and decoding of `clips` clips.

    texts: prompts without their negative prompt. A file that cannot be read adds no time: it is a problem of
    the plan.
    """
    found = [starting(sizes_of(settings).parameters())]
    try:
        chosen = chosen_checkpoint(settings, checkpoint)
        found += hashing([chosen] if chosen.is_file() else [])
        if texts:
            number = len({*texts, settings.sample.negative_prompt})
            found += encoding_texts(text_folder(settings), number)
        if decodes:
            shapes, side = open_autoencoder(settings.vae.weights).shapes, settings.data.image_size
            found.append(decoding(shapes, clips * settings.data.num_frames, (side, side)))
    except (LatteError, OSError):
        pass
    return tuple(found)


def training_parts(settings: Settings) -> tuple[Part, ...]:
    """Starting, compiling the step, and writing checkpoints."""
    train, sizes = settings.train, sizes_of(settings)
    written = -(-train.steps // train.checkpoint_every) * checkpoint_bytes(sizes, train)
    return (
        starting(ARRAYS * sizes.parameters()),
        Part("compiling", COMPILING * sizes.depth),
        Part("checkpoints", WRITING * written),
    )
