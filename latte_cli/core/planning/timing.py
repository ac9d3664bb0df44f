"""Estimate the time of a command: its parts, each at the share of the processor's speed that it reaches.

The shares were measured on two cores of an AMD EPYC 9004 (AVX-512) that did nothing else, at published sizes.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from latte_cli.core.checkpoints.tensors import Shape
from latte_cli.core.models.text.folder import TextFolder
from latte_cli.core.models.text.memory import encoding_work
from latte_cli.core.planning.autoencoder import decoding_flops
from latte_cli.core.planning.cost import FLOAT32, processor_speed
from latte_cli.core.planning.plan import Plan
from latte_cli.core.planning.units import duration
from latte_cli.core.storage.digests import unread_bytes

# Operations per second over those of a float32 matrix product in NumPy. Convolutions count as direct
# ones; they are computed with fewer operations (Winograd), so that their shares are above 1.
DENOISING, TRAINING = 1.0, 0.84
ENCODING, DECODING, FEATURES = 1.8, 2.3, 1.5
TEXTS = 1.0
START = 2.0  # seconds until MindSpore is imported and the command's files are checked
# Seconds per byte of float32 weights: 1.1 to 2.9 ns were measured; a virtual machine's new memory takes most.
LOADING = 2e-9
SHOWN = 0.01  # of the total: a part of less is not named
HASHING = 1 / 600e6  # seconds per byte of a file whose digest is not known yet


class Part(NamedTuple):
    """A part of a command that is not its steps."""

    name: str
    seconds: float


def add_time(
    plan: Plan,
    steps: int,
    operations: float,
    unit: str,
    *,
    share: float,
    others: Callable[[], tuple[Part, ...]] = tuple,
) -> None:
    """Add a row on the time of steps with this many operations each, at `share` of this processor's speed.

    others: the command's other parts, whose time is added to that of the steps; small ones are not named. It
    is called, and the processor measured, if the plan is shown.
    """

    def text() -> str:
        seconds, parts = operations / (processor_speed() * share), others()
        total = seconds * steps + sum(part.seconds for part in parts)
        shown = [part for part in parts if part.seconds >= SHOWN * total]
        named = ", ".join(f"{part.name} {duration(part.seconds)}" for part in shown)
        rough = f"roughly {duration(seconds)} per {unit}, {duration(total)} for {steps:,}"
        work = f"{operations / 1e12:.3g} TFLOP per {unit}"
        return f"{work}; on this processor {rough}{f' with {named}' if named else ''}"

    plan.add("time", text)


def starting(parameters: int) -> Part:
    """Starting a command and loading a transformer of this many parameters."""
    return Part("start", START + LOADING * FLOAT32 * parameters)


def hashing(files: Iterable[Path]) -> tuple[Part, ...]:
    """Reading files for their digests, where these are not known yet."""
    seconds = HASHING * unread_bytes(files)
    return (Part("digests", seconds),) if seconds >= 1 else ()


def encoding_texts(folder: TextFolder, texts: int) -> tuple[Part, ...]:
    """Encoding texts with T5; CLIP's takes part of a second."""
    if folder.kind != "t5" or not texts:
        return ()
    reading, operations = encoding_work(folder, texts)
    return (Part("texts", reading + operations / (processor_speed() * TEXTS)),)


def decoding(shapes: Mapping[str, Shape], frames: int, size: tuple[int, int]) -> Part:
    """Decoding frames of `size` (height, width) pixels."""
    operations = frames * decoding_flops(shapes, *size)
    return Part("decoding", operations / (processor_speed() * DECODING))
