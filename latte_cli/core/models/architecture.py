"""The interfaces of an architecture and of its transformer."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol

from numpy.typing import NDArray

from latte_cli.core.checkpoints.mapping import Kind as Layout
from latte_cli.core.data.captions.states import Kind as TextKind
from latte_cli.core.models.sizes import ModelSize, Sizes
from latte_cli.core.settings.messages import Fault
from latte_cli.core.settings.schema import Settings

CHANGES = ".lora_"  # part of the names of LoRA parameters


class Transformer(Protocol):
    """A MindSpore cell that predicts the noise in latents and, if learned, its variance."""

    timestep_embedder: ClassVar[str]
    """Name prefix of the timestep embedder's parameters: every block adds to their gradients."""
    learn_sigma: bool
    num_classes: int | None
    """Number of classes of the condition; None without class condition."""

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(F, C, h, w) of a clip's latents."""

    def config(self) -> dict[str, Any] | None:
        """The config.json to write next to checkpoints, or None."""

    def every_block(self) -> Iterable[Any]:
        """The blocks, cells with a `recompute` method."""

    def lora_targets(self) -> Iterable[tuple[str, Any]]:
        """Name and cell of each projection to which LoRA can be added."""

    def use_flash_attention(self) -> None:
        """Use Ascend's fused attention operator in every block; call before compilation."""

    def prepare(self, condition: Any) -> tuple[Any, ...]:
        """Compute the blocks' inputs that depend on the condition only.

        `condition`, of a clip and of I still images after it: (B, 1 + I) class labels or (B, 1 + I, N, D)
        text states.
        """

    def predict(self, x_t: Any, sinusoids: Any, prepared: tuple[Any, ...]) -> Any:
        """Predict from noised latents (B, F + I, C, h, w): (B, F + I, C or 2C, h, w) float32.

        `sinusoids` (B, 256) are `timestep_rows` of the timesteps, which may be fractional.
        """

    def modulation(self, sinusoids: Any, prepared: tuple[Any, ...]) -> tuple[Any, ...]:
        """The modulation of the blocks and the last layer at the timesteps of `sinusoids`."""

    def embed(self, x_t: Any) -> Any:
        """Map latents to tokens. `predict` is `finish` of `run_blocks` of `embed`."""

    def run_blocks(self, tokens: Any, modulation: tuple[Any, ...], prepared: tuple[Any, ...]) -> Any:
        """Pass tokens through every block; shape and float32 do not change."""

    def finish(self, tokens: Any, modulation: tuple[Any, ...]) -> Any:
        """Map tokens after the blocks to the result of `predict`."""

    def __call__(self, x_t: Any, timesteps: Any, condition: Any) -> Any:
        """`prepare` the condition and `predict` at integer timesteps (B,)."""

    def cells_and_names(self) -> Iterable[tuple[str, Any]]: ...
    def get_parameters(self) -> Iterable[Any]: ...
    def trainable_params(self) -> list[Any]: ...
    def set_train(self, mode: bool) -> object: ...


class Architecture(ABC):
    """An architecture. Only `build`, `shell` and `initialise` import MindSpore."""

    presets: ClassVar[Mapping[str, ModelSize]]
    """Named sizes."""
    preset_names: ClassVar[str]
    """The presets' names, for messages."""
    text_kind: ClassVar[TextKind]
    """The kind of text encoder, for condition: text."""
    layout: ClassVar[Layout | Literal["auto"]] = "auto"
    """The kind of its published checkpoints in `latte convert`; auto if it has none."""
    parts: ClassVar[Mapping[str, Callable[[str], bool]]] = MappingProxyType({"all": lambda name: True})
    """For each supported train.part: whether a parameter, by name, is trained."""

    def faults(self, settings: Settings, command: str | None) -> Iterator[Fault]:
        """Settings of an experiment that it does not support, as in `experiment.rules`."""
        yield from ()

    @abstractmethod
    def sizes(self, settings: Settings) -> Sizes:
        """The transformer's sizes. Raises LatteError if the settings do not define all of them."""

    @abstractmethod
    def text_width(self, settings: Settings) -> int:
        """Width of its text states."""

    @abstractmethod
    def build(self, settings: Settings, *, dtype: str = "float32") -> Transformer:
        """Build the transformer for training; `dtype` is the type of its blocks' products."""

    @abstractmethod
    def shell(self, settings: Settings, checkpoint: Path) -> Transformer:
        """Build the transformer for loading a run's checkpoint, with zero parameters."""

    @abstractmethod
    def initialise(self, model: Transformer, seed: int) -> None:
        """Initialise every parameter; values depend only on the seed and the parameter."""

    @abstractmethod
    def read(self, path: Path) -> Mapping[str, NDArray[Any]]:
        """Read the weights in a file or folder, by the transformer's names.

        Raises LatteError if they are damaged or belong to another model.
        """

    def adapt(self, model: Transformer, weights: dict[str, NDArray[Any]]) -> list[str]:
        """Adapt initial weights to the model where possible; returns a note on each change."""
        return []
