"""Training checkpoints with the complete state of a run."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Parameter, Tensor, ops
from numpy.typing import NDArray

from latte_cli.core.checkpoints.dtypes import DTYPES, Bits, Dtype
from latte_cli.core.checkpoints.folders import CONFIG
from latte_cli.core.checkpoints.lora import save_lora
from latte_cli.core.checkpoints.runs import (
    FORMAT,
    Best,
    checkpoint_at,
    checkpoints,
    lora_file,
    open_checkpoint,
    read_run,
)
from latte_cli.core.checkpoints.save import save_weights
from latte_cli.core.errors import LatteError
from latte_cli.core.models.architecture import CHANGES, Transformer
from latte_cli.core.models.lora import lora_of
from latte_cli.core.parallel.collective import Collective
from latte_cli.core.storage.files import write_file
from latte_cli.core.storage.json_files import Count, parse_json
from latte_cli.core.training.precision import LossScale
from latte_cli.core.training.sharding import Optimizer, Part


@dataclass(frozen=True)
class Progress:
    """The state of a run other than its weights: the next step, and sums for the next line of metrics."""

    step: Count = 0
    loss_scale: LossScale = field(default_factory=LossScale)
    window: Mapping[str, float] = field(default_factory=dict)
    """Sums over the steps since the last line of metrics."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """The settings of the run, as in its settings.yaml."""
    data: str = ""
    """Fingerprint of the clips and their order."""
    clips_taken: Count = 0
    """Clips of all workers so far: the next step's position in the infinite sequence of epochs."""
    global_batch: Count = 0
    """Clips per step, over all workers."""
    base: str = ""
    """SHA-256 of the base weights of LoRA."""
    best: Best | None = None
    """With train.keep_best."""


def tensors_of(
    model: Transformer, optimizer: Optimizer, *, trained_only: bool = False
) -> dict[str, Parameter | Part]:
    """Every tensor of a run by its name in a checkpoint: model/, ema/ and optimizer/.

    trained_only: without parameters that are not trained.
    """
    parameters = optimizer.trained if trained_only else model.get_parameters()
    tensors: dict[str, Parameter | Part] = {f"model/{parameter.name}": parameter for parameter in parameters}
    # Parameters that are not trained, such as position tables, equal their average.
    tensors |= {f"ema/{name.removeprefix('model/')}": parameter for name, parameter in tensors.items()}
    return tensors | optimizer.state()


def send_state(tensors: Mapping[str, Parameter | Part], collective: Collective) -> None:
    """Send what this worker owns to the first one, which is in `save_state`."""
    for tensor in tensors.values():
        if isinstance(tensor, Part) and tensor.owner != 0:
            tensor.gather(collective)


def save_state(
    folder: Path,
    tensors: Mapping[str, Parameter | Part],
    progress: Progress,
    *,
    keep: int,
    collective: Collective,
) -> Path:
    """Write a checkpoint atomically, then remove all but the best and the newest `keep`; returns its path.

    The first worker calls this while the others call `send_state`. Raises LatteError if the checkpoint cannot
    be written; earlier checkpoints are kept in this case.
    """
    path = checkpoint_at(folder, progress.step)
    metadata = {"format": FORMAT, "progress": json.dumps(asdict(progress), default=str)}
    save_weights(path, {name: _Numbers(one, collective) for name, one in tensors.items()}, metadata=metadata)
    best = None if progress.best is None else checkpoint_at(folder, progress.best.step)
    for old in checkpoints(folder)[:-keep]:
        if old != best:
            old.unlink()
            lora_file(old).unlink(missing_ok=True)
    return path


@dataclass(frozen=True)
class _Numbers:
    """A tensor of a checkpoint, gathered from its owner when it is written."""

    tensor: Parameter | Part
    collective: Collective
    dtype: Dtype = DTYPES["float32"]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def bits(self) -> Bits:
        if isinstance(self.tensor, Part):
            held = self.tensor.held
            return self.tensor.gather(self.collective) if held is None else held.asnumpy()
        return np.ascontiguousarray(self.tensor.asnumpy())

    def release(self) -> None:
        """Does nothing: the numbers are not in a file."""


def save_companions(checkpoint: Path, model: Transformer, tensors: Mapping[str, Parameter | Part]) -> None:
    """Write the files next to a checkpoint, before the checkpoint itself: config.json, if the model has one,
    and the averaged LoRA, if there is one."""
    if (config := model.config()) is not None:
        write_file(checkpoint.with_name(CONFIG), json.dumps(config, indent=1) + "\n")
    averages = {
        name.removeprefix("ema/"): tensor.asnumpy()
        for name, tensor in tensors.items()
        if name.startswith("ema/") and CHANGES in name and isinstance(tensor, Parameter)
    }
    if averages:
        save_lora(lora_file(checkpoint), lora_of(model, averages))


def read_progress(path: Path) -> Progress:
    """Read the progress from a checkpoint. Raises LatteError if it is not a training checkpoint."""
    return read_run(path, Progress)


def load_state(path: Path, tensors: Mapping[str, Parameter | Part]) -> None:
    """Set every tensor of a run that this worker holds from a checkpoint.

    Raises LatteError if the file is damaged or of another model.
    """
    with open_checkpoint(path) as file:
        text = (file.metadata() or {}).get("crc32", "")
        checksums = parse_json(text.encode(), dict[str, Any], source=f"{path}: crc32")
        others = sorted(tensors.keys() ^ checksums.keys())
        if others:
            raise LatteError(f"{path}: contains another model: {others[0]} is not in both")
        for name, tensor in tensors.items():
            parameter = tensor.held if isinstance(tensor, Part) else tensor
            if parameter is None:
                continue
            array: NDArray[np.float32] = file.get_tensor(name)
            if zlib.crc32(np.ascontiguousarray(array).data) != checksums[name]:
                raise LatteError(f"{path}: damaged: {name} does not match its checksum")
            if array.shape != tuple(parameter.shape):
                raise LatteError(f"{path}: {name} is {array.shape}, expected {tuple(parameter.shape)}")
            ops.assign(parameter, Tensor(array))
