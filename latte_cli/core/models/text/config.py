"""A text encoder's `config.json`, checked."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field

from latte_cli.core.errors import LatteError
from latte_cli.core.models.text.operators import ACTIVATIONS
from latte_cli.core.models.text.weights import Shapes
from latte_cli.core.storage.json_files import Model, check_json

Layers = Annotated[int, Field(gt=0, le=1000)]


class EncoderConfig(Model, ABC):
    """The common fields of a `config.json`; others are ignored."""

    @property
    @abstractmethod
    def activation(self) -> str:
        """The activation, one of ACTIVATIONS."""

    @abstractmethod
    def shapes(self) -> Shapes:
        """The shape of every weight, by its name in transformers."""


Config = TypeVar("Config", bound=EncoderConfig)


def parse_config(kind: type[Config], content: Mapping[str, Any], *, source: str) -> Config:
    """Parse a configuration. Raises LatteError naming the file and the invalid field."""
    config = check_json(content, kind, source=source)
    if config.activation not in ACTIVATIONS:
        expected = f"expected one of {', '.join(ACTIVATIONS)}"
        raise LatteError(f"{source}: found the activation {config.activation}, {expected}")
    return config
