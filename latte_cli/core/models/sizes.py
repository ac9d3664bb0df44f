"""Sizes of a transformer: presets, explicit settings, and the resolved sizes."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import ModelSettings


class ModelSize(NamedTuple):
    """The sizes of a preset, which can also be set explicitly."""

    hidden_size: int
    depth: int
    num_heads: int
    patch_size: int


class Sizes(Protocol):
    """The sizes that determine a transformer's compute and memory; `depth` counts all blocks."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def num_heads(self) -> int: ...
    @property
    def patch_size(self) -> int: ...
    @property
    def mlp_size(self) -> int: ...
    @property
    def in_channels(self) -> int: ...
    @property
    def out_channels(self) -> int: ...
    @property
    def sample_size(self) -> int: ...
    @property
    def num_frames(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def text_tokens(self) -> int: ...
    @property
    def condition(self) -> str: ...
    def position_parameters(self) -> int: ...
    def trained_parameters(self) -> int: ...
    def parameters(self) -> int: ...


def example_of(presets: Mapping[str, ModelSize]) -> str:
    """An example of a preset, for messages."""
    first = next(iter(presets))
    return first if len(presets) == 1 else f"such as {first}"


def model_size(model: ModelSettings, presets: Mapping[str, ModelSize]) -> ModelSize:
    """The preset's sizes, overridden by those of the model section.

    Raises LatteError if the preset is unknown or a size is not defined.
    """
    if model.preset is not None and model.preset not in presets:
        raise LatteError(f'model.preset: found "{model.preset}", expected one of {", ".join(presets)}')
    numbers = {} if model.preset is None else presets[model.preset]._asdict()
    numbers |= model.model_dump(include=set(ModelSize._fields), exclude_none=True)
    missing = [f"model.{name}" for name in ModelSize._fields if name not in numbers]
    if missing:
        expected = f"a preset, {example_of(presets)}, or all four"
        raise LatteError(f"model: found no preset and no {', '.join(missing)}, expected {expected}")
    return ModelSize(**numbers)


def linear(inputs: int, outputs: int) -> int:
    """Number of parameters of a linear layer with bias."""
    return inputs * outputs + outputs
