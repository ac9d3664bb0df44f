"""The loss curve of a run."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latte_cli.core.training.charts import loss_curve


def drawn(folder: Path, *, loss: float) -> np.ndarray:
    """The loss curve of a single step of a run in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": loss, "mse": loss}) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss_curve(folder / "metrics.jsonl", folder / "loss.png")
    return np.asarray(Image.open(folder / "loss.png"))


@pytest.mark.parametrize("name", [r"a$\frac$", "a\nb 🎬 [c]", "caf\udce9"])
def test_a_run_of_any_name_has_a_loss_curve(name: str, tmp_path: Path) -> None:
    assert drawn(tmp_path / name, loss=1.0).shape == (450, 800, 4)


def test_a_single_step_is_drawn_as_a_point(tmp_path: Path) -> None:
    orange = [255, 127, 14, 255]  # of the second curve, drawn over the first
    inside = drawn(tmp_path, loss=1.0)[100:350, 100:700]
    assert (inside == orange).all(axis=-1).any()
