"""What sampling from a run begins with: its checkpoint, the files behind that, and which clips to draw."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.data.captions.prompts import PromptLine, named
from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import Settings


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in the `ckpt/` of a run, oldest first."""
    return sorted(folder.glob("step-*.safetensors"))


def newest_checkpoint(settings: Settings) -> Path:
    """The run folder's newest checkpoint. Raises LatteError when there is none."""
    found = checkpoints(settings.run_dir / "ckpt")
    if not found:
        raise LatteError(f"{settings.run_dir}: holds no checkpoint; train first, or give --checkpoint")
    return found[-1]


def changes_beside(checkpoint: Path) -> Path:
    """The file of low-rank changes that stands beside a checkpoint of a run that trains them."""
    return checkpoint.with_name(checkpoint.name.replace("step-", "lora-"))


def changed_weights(settings: Settings) -> Path:
    """The weights that a run's low-rank changes are added to. Raises LatteError when they are not there."""
    start = settings.train.init_from
    if start is None or not start.exists():
        raise LatteError(f"train.init_from: {start}: no such file or folder, wanted what part: lora changes")
    return start


def checkpoint_files(settings: Settings, checkpoint: Path) -> list[Path]:
    """The files that make a run's transformer as a checkpoint left it, or weights that take its place.

    Raises LatteError when one is missing.
    """
    if settings.train.part != "lora":
        kind = "t2v" if settings.model.architecture == "latte-t2v" else "latte"
        return [*open_weights(checkpoint, kind=kind).files] if checkpoint.is_dir() else [checkpoint]
    changes = changes_beside(checkpoint)
    if not changes.is_file():
        raise LatteError(f"{changes}: no such file, wanted the low-rank changes of {checkpoint.name}")
    return [changes, *open_weights(changed_weights(settings), kind="t2v").files]


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
