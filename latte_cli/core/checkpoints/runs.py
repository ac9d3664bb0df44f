"""The checkpoints in a run's folder: which there are, what stands beside them, what they say of the run."""

from functools import cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.digests import digest_of_files
from latte_cli.core.storage.json_files import Kind, Model, parse_json

FORMAT = "latte training checkpoint 1"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in the `ckpt/` of a run, oldest first."""
    return sorted(folder.glob("step-*.safetensors"))


def checkpoint_at(folder: Path, step: int) -> Path:
    """The checkpoint of a run after that step."""
    return folder / f"step-{step:08d}.safetensors"


def newest_checkpoint(settings: Settings) -> Path:
    """The run folder's newest checkpoint. Raises LatteError when there is none."""
    found = checkpoints(settings.run_dir / "ckpt")
    if not found:
        raise LatteError(f"{settings.run_dir}: holds no checkpoint; train first, or give --checkpoint")
    return found[-1]


def lora_beside(checkpoint: Path) -> Path:
    """The file of low-rank changes that stands beside a checkpoint of a run that trains them."""
    return checkpoint.with_name(checkpoint.name.replace("step-", "lora-"))


def base_weights(settings: Settings) -> Path:
    """The weights that a run's low-rank changes are added to. Raises LatteError when they are not there."""
    start = settings.train.init_from
    if start is None or not start.exists():
        raise LatteError(
            f"train.init_from: {start}: no such file or folder, expected what part: lora changes"
        )
    return start


@cache
def digest_of(path: Path, layout: str) -> str:
    """SHA-256 of the files that hold a transformer's weights; `layout`: which part of a pipeline it is."""
    return digest_of_files(open_weights(path, kind=layout).files)


def open_checkpoint(path: Path) -> safe_open:
    """A training checkpoint's tensors and metadata. Raises LatteError when it cannot be read."""
    try:
        return safe_open(path, framework="np")
    except (SafetensorError, OSError) as error:
        raise LatteError(f"{path}: cannot be read as a checkpoint: {error}") from error


class RunBase(Model):
    """What a training checkpoint says of the weights that it changes."""

    base: str = ""


def read_run(path: Path, kind: type[Kind]) -> Kind:
    """What a training checkpoint says of its run, as `kind`: see `training.state.Progress`.

    Raises LatteError for a file that is no training checkpoint.
    """
    with open_checkpoint(path) as file:
        metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise LatteError(
            f"{path}: found weights without a training state, expected a checkpoint that `latte train` wrote;"
            " to start from these weights, set train.init_from"
        )
    return parse_json(metadata.get("progress", "").encode(), kind, source=f"{path}: progress")
