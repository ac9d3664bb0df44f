"""Set a run up: the trainer, and weights from other files, possibly with other classes, frames or sizes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from latte_cli.core.checkpoints.runs import digest_of
from latte_cli.core.diffusion.schedule import make_schedule
from latte_cli.core.kernels.selection import works_as_device
from latte_cli.core.machine.device import device_in_use, uses_flash_attention, uses_sink_mode
from latte_cli.core.models.architecture import CHANGES, Architecture, Transformer
from latte_cli.core.models.architectures import architecture_of
from latte_cli.core.models.weights import load_weights
from latte_cli.core.parallel.collective import Collective
from latte_cli.core.parallel.world import World
from latte_cli.core.settings.schema import Settings
from latte_cli.core.settings.training import TrainSettings
from latte_cli.core.training.captioning import CaptionSampler
from latte_cli.core.training.one_graph import OneGraph
from latte_cli.core.training.precision import LossScale
from latte_cli.core.training.sharding import Optimizer, optimizer_of
from latte_cli.core.training.state import Progress
from latte_cli.core.training.stepping import DeviceSteps, HostSteps, Steps
from latte_cli.core.training.trainer import Trainer


def make_trainer(
    settings: Settings,
    model: Transformer,
    *,
    clips: str = "",
    collective: Collective | None = None,
    captions: CaptionSampler | None = None,
) -> Trainer:
    """A trainer at step 0, on the device in use; the model is set up for training.

    clips: their fingerprint, for checkpoints. Reads the base weights of LoRA for their digest. For the rest
    see `Trainer`.
    """
    _set_up(model, settings.train, device_in_use())
    collective = collective or Collective(World(), lambda _: None)
    optimizer = optimizer_of(model, settings.train, collective)
    return Trainer(
        settings,
        model,
        optimizer=optimizer,
        steps=_steps(settings, model, optimizer, collective=collective),
        schedule=make_schedule(settings.diffusion),
        collective=collective,
        captions=captions,
        progress=Progress(
            loss_scale=LossScale.for_dtype(settings.train.dtype),
            settings=settings.model_dump(mode="json"),
            data=clips,
            base=_base_digest(settings),
        ),
    )


def _set_up(model: Transformer, train: TrainSettings, device: str) -> None:
    """Select the model's attention operator and what its backward pass recomputes."""
    if uses_flash_attention(train, device):
        model.use_flash_attention()
    if train.recompute:
        for block in model.every_block():
            block.recompute()


def _steps(settings: Settings, model: Transformer, optimizer: Optimizer, *, collective: Collective) -> Steps:
    """How the device in use takes the steps of a run."""
    train = settings.train
    if not works_as_device():
        return HostSteps(model, optimizer, train, collective=collective)
    graph = OneGraph(model, optimizer, train, means=collective.means_in_graph())
    return DeviceSteps(graph, sinks=uses_sink_mode(settings, device_in_use()))


def _base_digest(settings: Settings) -> str:
    """Digest of the base weights of LoRA; empty without LoRA."""
    train = settings.train
    if not train.trains_lora or train.init_from is None:
        return ""
    return digest_of(train.init_from, architecture_of(settings).layout)


def set_start(architecture: Architecture, model: Transformer, path: Path) -> list[str]:
    """Initialise a model from a weights file or folder; returns a note on each parameter set otherwise.

    Raises LatteError if they do not fit.
    """
    return start_from(architecture, model, architecture.read(path), source=str(path))


def start_from(
    architecture: Architecture, model: Transformer, weights: Mapping[str, NDArray[Any]], *, source: str
) -> list[str]:
    """Initialise a model from `weights`, except LoRA parameters.

    Returns a note on each parameter set otherwise, see `Architecture.adapt`. Raises LatteError naming
    `source` for differences that cannot be adapted.
    """
    values = dict(weights)
    values |= {p.name: p.asnumpy() for p in model.get_parameters() if CHANGES in p.name}
    notes = architecture.adapt(model, values)
    load_weights(model, values, source=source)
    return notes
