"""What a run folder holds for sampling: its newest checkpoint, and the files that clips are made from."""

from pathlib import Path

from latte_cli.core.checkpoints.formats import open_weights
from latte_cli.core.errors import LatteError
from latte_cli.core.settings import Settings


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
