"""The checkpoints in a run's folder, the files next to them, and the run's state stored in them."""

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import Settings
from latte_cli.core.storage.digests import digest_of_files
from latte_cli.core.storage.json_files import Count, Kind, Model, parse_json

BEST = Path("best")
"""Names the checkpoint of the lowest validation loss."""
FORMAT = "latte training checkpoint 1"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in the `ckpt/` folder of a run, oldest first."""
    return sorted(folder.glob("step-*.safetensors"))


def checkpoint_at(folder: Path, step: int) -> Path:
    """Path of a run's checkpoint for a step."""
    return folder / f"step-{step:08d}.safetensors"


def chosen_checkpoint(settings: Settings, given: Path | None) -> Path:
    """The checkpoint to sample from: `given`, the run folder's newest by default, the best one for BEST.

    Without any in the run folder it is sample.pretrained. Raises LatteError if there is none, or BEST is
    asked of a run that does not keep it.
    """
    if given is not None and given != BEST:
        return given
    found = checkpoints(settings.run_dir / "ckpt")
    if not found and given is None and settings.sample.pretrained is not None:
        return settings.sample.pretrained
    if not found:
        raise LatteError(f"{settings.run_dir}: no checkpoint found; train first or give --checkpoint")
    if given is None:
        return found[-1]
    best = read_run(found[-1], RunBest).best
    if best is None:
        raise LatteError(
            f"--checkpoint best: {settings.run_dir}: contains none, expected a run with train.keep_best and a"
            " validation loss"
        )
    return checkpoint_at(settings.run_dir / "ckpt", best.step)


def holds_lora(settings: Settings, checkpoint: Path | None) -> bool:
    """Whether a run's checkpoint contains low-rank adapters for the weights of train.init_from."""
    return settings.train.trains_lora and checkpoint != settings.sample.pretrained


def lora_file(checkpoint: Path) -> Path:
    """The LoRA file next to a checkpoint, in runs that train LoRA."""
    return checkpoint.with_name(checkpoint.name.replace("step-", "lora-"))


def base_weights(settings: Settings) -> Path:
    """The weights that a LoRA run adapts. Raises LatteError if they do not exist."""
    start = settings.train.init_from
    if start is None or not start.exists():
        raise LatteError(
            f"train.init_from: {start}: no such file or folder, expected the weights for train.part: lora"
        )
    return start


def digest_of(path: Path, layout: str) -> str:
    """SHA-256 of a transformer's weights files; `layout`: its kind within a pipeline."""
    return digest_of_files(open_weights(path, kind=layout).files)


def open_checkpoint(path: Path) -> safe_open:
    """Open a training checkpoint's tensors and metadata. Raises LatteError if it cannot be read."""
    try:
        return safe_open(path, framework="np")
    except (SafetensorError, OSError) as error:
        raise LatteError(f"{path}: cannot be read as a checkpoint: {error}") from error


class RunBase(Model):
    """The base weights recorded in a training checkpoint."""

    base: str = ""


@dataclass(frozen=True)
class Best:
    """The step of a run's lowest validation loss so far, and the fingerprint of its validation clips."""

    step: Count
    loss: float
    clips: str


class RunBest(Model):
    """The best checkpoint so far, from a training checkpoint."""

    best: Best | None = None


def read_run(path: Path, kind: type[Kind]) -> Kind:
    """Read the run's state from a training checkpoint, as `kind` (see `training.state.Progress`).

    Raises LatteError if the file is not a training checkpoint.
    """
    with open_checkpoint(path) as file:
        metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise LatteError(
            f"{path}: found weights without training state, expected a checkpoint of `latte train`;"
            " to start from these weights, set train.init_from"
        )
    return parse_json(metadata.get("progress", "").encode(), kind, source=f"{path}: progress")
