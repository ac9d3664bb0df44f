"""Check memory and folders before anything is created or loaded."""

import os
import tempfile
from pathlib import Path

from latte_cli.core.errors import LatteError
from latte_cli.core.machine.memory import machine_memory
from latte_cli.core.models.sizes import Sizes
from latte_cli.core.planning.cost import FLOAT32, least_activations, training_memory
from latte_cli.core.planning.units import bytes_of
from latte_cli.core.settings.training import TrainSettings

ACCELERATOR = 512 * 10**9  # bytes: more than any accelerator has, if the device is unknown


def check_memory(name: str, needed: int, device: str, *, lower: str) -> None:
    """Raise LatteError if `device` (cpu, ascend, gpu, auto) cannot have `needed` bytes.

    name: begins the message. lower: the settings to lower."""
    here = machine_memory()
    limit = here if device == "cpu" else max(here, ACCELERATOR)
    if needed > limit:
        counted = "" if device == "cpu" else f", and an accelerator {bytes_of(ACCELERATOR)} at most"
        raise LatteError(
            f"{name} at least {bytes_of(needed)} of memory; this machine has {bytes_of(here)}{counted}:"
            f" lower {lower}"
        )


def check_training_memory(shape: Sizes, train: TrainSettings, device: str, *, workers: int = 1) -> None:
    """Raise LatteError if a training step cannot fit, by a lower bound of the memory."""
    memory = training_memory(shape, train, workers=workers)
    fixed = memory.total - memory.activations
    check_memory("model: training takes", fixed, device, lower="model.depth or model.hidden_size")
    least = fixed + least_activations(shape, train)
    lower = "train.batch_size, data.image_size or data.num_frames"
    check_memory(f"train.batch_size: a step of {train.batch_size} takes", least, device, lower=lower)


def check_sampling_memory(shape: Sizes, device: str) -> None:
    """Raise LatteError if a clip cannot be sampled, by the memory of weights and a block's values."""
    tokens = shape.num_frames * shape.tokens * shape.hidden_size
    lower = "model.depth, model.hidden_size, data.image_size or data.num_frames"
    check_memory("sampling takes", FLOAT32 * (shape.parameters() + 3 * tokens), device, lower=lower)


def check_folder(name: str, folder: Path) -> None:
    """Raise LatteError if files cannot be written into a folder, which may not exist yet.

    Creates and removes a temporary folder: permissions are not sufficient, for example in /proc.
    """
    place = folder
    try:
        while not os.path.lexists(place) and place != place.parent:
            place = place.parent
        with tempfile.TemporaryDirectory(prefix=".latte-", dir=place):
            pass
    except OSError as error:
        found = (
            "is a file, expected a folder" if place.is_file() else f"cannot be written to: {error.strerror}"
        )
        where = f"{folder}" if place == folder else f"{folder}: {place}"
        raise LatteError(f"{name}: {where}: {found}") from error
