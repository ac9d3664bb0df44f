"""Rename a file's tensors to the names used here; every tensor must be accounted for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from latte_cli.core.checkpoints.limits import RefusedError, several, shown
from latte_cli.core.checkpoints.tensors import Rearranged, Shape, Tensor

TIMESTEP_CHANNELS = 256
"""Sinusoids of a timestep, before its MLP (Peebles & Xie 2023)."""


@dataclass
class Placed:
    """Tensors by our names, their names in the file, and the ignored ones with the reason."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)

    def place(self, source: str, name: str, tensor: Tensor) -> None:
        """Add a tensor under our name. Raises RefusedError if the name is taken."""
        if name in self.tensors:
            raise RefusedError(
                f"contains both {shown(self.sources[name])} and {shown(source)}, which are the same parameter"
            )
        self.tensors[name], self.sources[name] = tensor, source


def reshaped(tensor: Tensor, shape: Shape) -> Tensor:
    """The tensor reshaped."""
    return Rearranged(tensor, shape)


def check_layout(tensors: Mapping[str, Tensor], layout: Mapping[str, Shape], *, what: str) -> None:
    """Raise RefusedError naming tensors that are missing, unexpected or of the wrong shape."""
    missing = [name for name in layout if name not in tensors]
    unexpected = [name for name in tensors if name not in layout]
    wrong = [name for name, shape in layout.items() if name in tensors and tensors[name].shape != shape]
    problems = [
        f"{word} {several(names)}"
        for word, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    if wrong:
        examples = [f"{name} of shape {tensors[name].shape}, expected {layout[name]}" for name in wrong[:2]]
        problems.append(
            f"found {'; '.join(examples)}" + (f" and {len(wrong) - 2} more" if len(wrong) > 2 else "")
        )
    if problems:
        raise RefusedError(f"is not a complete {what}: {'; '.join(problems)}")


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Each tensor's shape."""
    return {name: tensor.shape for name, tensor in tensors.items()}


def depth_of(blocks: Iterable[int]) -> int:
    """The number of blocks, from the numbers in their names.

    Up to the highest if most of them are present, else the contiguous ones from the first.
    """
    numbers = set(blocks)
    highest = max(numbers) + 1
    run = next(number for number in range(highest + 1) if number not in numbers)
    return highest if 2 * len(numbers) > highest else run
