"""A file's tensors under the names that the models here use: every one placed, or the file refused."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from latte_cli.core.checkpoints.limits import RefusedError, several, shown
from latte_cli.core.checkpoints.tensors import Rearranged, Shape, Tensor


@dataclass
class Placed:
    """Tensors by our names, where each came from, and what is left with the reason."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)

    def place(self, source: str, name: str, tensor: Tensor) -> None:
        """Put a tensor under our name. Raises RefusedError when another is there already."""
        if name in self.tensors:
            raise RefusedError(
                f"holds both {shown(self.sources[name])} and {shown(source)}, which are the same parameter"
            )
        self.tensors[name], self.sources[name] = tensor, source


def reshaped(tensor: Tensor, shape: Shape) -> Tensor:
    """The same numbers in another shape."""
    return Rearranged(tensor, shape)


def check_layout(tensors: Mapping[str, Tensor], layout: Mapping[str, Shape], *, what: str) -> None:
    """Raise RefusedError naming what is missing, unexpected or of another shape than the layout's."""
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
        raise RefusedError(f"is no whole {what}: {'; '.join(problems)}")


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Each tensor's shape."""
    return {name: tensor.shape for name, tensor in tensors.items()}


def depth_of(blocks: Iterable[int]) -> int:
    """How many blocks there are, by the numbers in their names.

    Up to the highest when most of them are there, else the unbroken run from the first.
    """
    numbers = set(blocks)
    highest = max(numbers) + 1
    run = next(number for number in range(highest + 1) if number not in numbers)
    return highest if 2 * len(numbers) > highest else run
