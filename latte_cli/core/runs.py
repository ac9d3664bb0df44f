"""What a run folder holds for sampling: its newest checkpoint, and the files that clips are made from."""

from pathlib import Path

from latte_cli.core.errors import LatteError
from latte_cli.core.settings import Settings


def newest_checkpoint(settings: Settings) -> Path:
    """The run folder's newest checkpoint. Raises LatteError when there is none."""
    found = sorted((settings.run_dir / "ckpt").glob("step-*.safetensors"))
    if not found:
        raise LatteError(f"{settings.run_dir}: holds no checkpoint; train first, or give --checkpoint")
    return found[-1]


def checkpoint_files(settings: Settings, checkpoint: Path) -> list[Path]:
    """The files whose weights `load_trained` reads."""
    return [checkpoint]
