"""What sampling from a run begins with: the files behind its checkpoint, and which clips to draw."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.checkpoints.runs import base_weights, lora_beside
from latte_cli.core.data.captions.prompts import PromptLine, named
from latte_cli.core.errors import LatteError
from latte_cli.core.models.architectures import architecture_of
from latte_cli.core.settings.schema import Settings


def checkpoint_files(settings: Settings, checkpoint: Path) -> list[Path]:
    """The files that make a run's transformer as a checkpoint left it, or weights that take its place.

    Raises LatteError when one is missing.
    """
    layout = architecture_of(settings).layout
    if not settings.train.trains_lora:
        return [*open_weights(checkpoint, kind=layout).files] if checkpoint.is_dir() else [checkpoint]
    changes = lora_beside(checkpoint)
    if not changes.is_file():
        raise LatteError(f"{changes}: no such file, wanted the low-rank changes of {checkpoint.name}")
    return [changes, *open_weights(base_weights(settings), kind=layout).files]


def untold_clips(settings: Settings, number: int) -> Iterator[tuple[str, int, int | None]]:
    """Name, seed and class label of `number` clips without a prompt. Labels come in turn, as do seeds."""
    sample, classes = settings.sample, settings.model.num_classes
    labels = sample.class_labels or range(classes or 0)
    for place in range(number):
        seed, label = sample.seed + place, labels[place % len(labels)] if labels else None
        yield f"{place:03d}-seed{seed}" + ("" if label is None else f"-class{label}"), seed, label


def told_clips(
    settings: Settings, prompts: Sequence[PromptLine], number: int
) -> Iterator[tuple[str, int, PromptLine]]:
    """Name, seed and prompt of the clips of prompts, `number` of each with seeds one apart."""
    for first, line in enumerate(prompts):
        for further in range(number):
            seed = (settings.sample.seed if line.seed is None else line.seed) + further
            yield named(first * number + further, seed, line.text), seed, line
