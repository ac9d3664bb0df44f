"""The results of `latte evaluate` in a run folder."""

from pathlib import Path

from pydantic import Field

from latte_cli.core.storage.json_files import Model, read_json

EVALUATION = "evaluate.json"
METRICS = {"fvd": "FVD", "psnr": "PSNR (dB)", "ssim": "SSIM"}


class Figure(Model):
    """A result: the mean over the draws (null if infinite) and their standard deviation."""

    value: float | None
    spread: float | None = None


class Evaluation(Model):
    """The shown part of a file of `latte evaluate --report`."""

    fvd: Figure | None = None
    psnr: Figure | None = None
    ssim: Figure | None = None
    remarks: tuple[str, ...] = ()
    protocol: dict[str, object] = Field(default_factory=dict)


def evaluation(run_dir: Path) -> Evaluation | None:
    """The results of a run, if it was evaluated. Raises LatteError if the file cannot be read."""
    path = run_dir / EVALUATION
    return read_json(path, Evaluation) if path.exists() else None
