"""What the rest of the program asks of an architecture, and of a transformer built by one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from numpy.typing import NDArray

from latte_cli.core.checkpoints.mapping import Kind as Layout
from latte_cli.core.data.captions.states import Kind as TextKind
from latte_cli.core.models.sizes import ModelSize, Sizes
from latte_cli.core.settings.messages import Fault
from latte_cli.core.settings.schema import Settings

CHANGES = ".lora_"  # in the names of parameters that are low-rank changes


class Transformer(Protocol):
    """A MindSpore cell that predicts the noise in latents, and its variance where that is learned."""

    timestep_embedder: ClassVar[str]
    """How the parameters' names begin that embed the timestep: every block adds to their gradients."""
    learn_sigma: bool
    num_classes: int | None
    """Classes that its condition is one of; None when it has none."""

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(F, C, h, w) of the clips that it makes."""

    def config(self) -> dict[str, Any] | None:
        """What stands beside its checkpoints as config.json; None for no such file."""

    def every_block(self) -> Iterable[Any]:
        """The blocks, each a cell with a `recompute` of its own."""

    def lora_targets(self) -> Iterable[tuple[str, Any]]:
        """Name and cell of each projection that low-rank changes can be added to."""

    def use_flash_attention(self) -> None:
        """Have every block attend by Ascend's fused operator; to be called before anything is compiled."""

    def prepare(self, condition: Any) -> tuple[Any, ...]:
        """What the blocks take of a condition, whatever the latents and timesteps.

        `condition` is that of a clip and of I still images after it: (B, 1 + I) class labels or (B, 1 + I, N,
        D) text states.
        """

    def predict(self, x_t: Any, sinusoids: Any, prepared: tuple[Any, ...]) -> Any:
        """Predict for noised latents (B, F + I, C, h, w): (B, F + I, C or 2C, h, w) float32.

        `sinusoids` are (B, 256), `timestep_rows` of the timesteps, which need not be whole.
        """

    def modulation(self, sinusoids: Any, prepared: tuple[Any, ...]) -> tuple[Any, ...]:
        """What modulates the blocks and the last layer, at the timesteps of `sinusoids`."""

    def embed(self, x_t: Any) -> Any:
        """Latents to the tokens that the blocks take. `finish` of `run_blocks` of them is `predict`."""

    def run_blocks(self, tokens: Any, modulation: tuple[Any, ...], prepared: tuple[Any, ...]) -> Any:
        """Tokens through every block, of the same shape and float32 as before."""

    def finish(self, tokens: Any, modulation: tuple[Any, ...]) -> Any:
        """Tokens after the blocks to what `predict` gives."""

    def __call__(self, x_t: Any, timesteps: Any, condition: Any) -> Any:
        """`predict` at whole timesteps (B,), told by `prepare` of a condition."""

    def cells_and_names(self) -> Iterable[tuple[str, Any]]: ...
    def get_parameters(self) -> Iterable[Any]: ...
    def trainable_params(self) -> list[Any]: ...
    def set_train(self, mode: bool) -> object: ...


class Architecture(ABC):
    """A row of the table of architectures. Only `build`, `shell` and `initialise` import MindSpore."""

    presets: ClassVar[Mapping[str, ModelSize]]
    """Its named sizes."""
    preset_names: ClassVar[str]
    """Their names in words."""
    text_kind: ClassVar[TextKind]
    """The text encoder whose states it reads, with condition: text."""
    layout: ClassVar[Layout]
    """What its checkpoints are called among those of `latte convert`."""
    parts: ClassVar[Mapping[str, Callable[[str], bool]]] = MappingProxyType({"all": lambda name: True})
    """For each train.part that it has: whether the parameter of a name is trained."""

    def faults(self, settings: Settings, command: str | None) -> Iterator[Fault]:
        """What it cannot do of what an experiment asks for, as by the rules of `experiment.rules`."""
        yield from ()

    @abstractmethod
    def sizes(self, settings: Settings) -> Sizes:
        """The transformer's sizes. Raises LatteError when the settings name no whole size."""

    @abstractmethod
    def text_width(self, settings: Settings) -> int:
        """Width of the text states that it reads."""

    @abstractmethod
    def build(self, settings: Settings, *, dtype: str = "float32") -> Transformer:
        """The transformer that training begins with; `dtype` is the arithmetic of its blocks."""

    @abstractmethod
    def shell(self, settings: Settings, checkpoint: Path) -> Transformer:
        """The transformer that a run's checkpoint is loaded into, its parameters zero."""

    @abstractmethod
    def initialise(self, model: Transformer, seed: int) -> None:
        """Give every parameter its starting value, a function of the seed and the parameter alone."""

    @abstractmethod
    def read(self, path: Path) -> Mapping[str, NDArray[Any]]:
        """The weights in a file or folder by the transformer's names.

        Raises LatteError when they are another model's, or damaged.
        """

    def adapt(self, model: Transformer, weights: dict[str, NDArray[Any]]) -> list[str]:
        """Change weights to start from so that they fit where that can be; a line on each that is changed."""
        return []
