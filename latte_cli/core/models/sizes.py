"""The size of a transformer: named, given by number, and what it comes to."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from latte_cli.core.errors import LatteError
from latte_cli.core.settings.schema import ModelSettings


class ModelSize(NamedTuple):
    """What a preset fixes; the same four numbers may be given one by one."""

    hidden_size: int
    depth: int
    num_heads: int
    patch_size: int


class Sizes(Protocol):
    """What the work and the memory of a transformer follow from; `depth` counts every block."""

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
    """A preset, for a message."""
    first = next(iter(presets))
    return first if len(presets) == 1 else f"such as {first}"


def model_size(model: ModelSettings, presets: Mapping[str, ModelSize]) -> ModelSize:
    """The preset's numbers, each replaced by the model section's own where it gives one.

    Raises LatteError when the preset is unknown or a number is given by neither.
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
    """Numbers of a linear layer with a bias."""
    return inputs * outputs + outputs
