"""Map a file's tensors to a model: detect the kind, rename and check every tensor, describe the model."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from numpy.typing import NDArray

from latte_cli.core.checkpoints.dtypes import FLOATS, Bits, widen
from latte_cli.core.checkpoints.layouts import latte, latte_t2v, vae
from latte_cli.core.checkpoints.layouts.matching import Placed, check_layout, shapes_of
from latte_cli.core.checkpoints.limits import MAX_OVERLAP_BYTES, RefusedError, several
from latte_cli.core.checkpoints.open import Weights, open_weights
from latte_cli.core.checkpoints.sections import Choice
from latte_cli.core.checkpoints.tensors import Shape, Tensor, nbytes
from latte_cli.core.errors import LatteError

Kind = Literal["latte", "vae", "t2v"]


class Layout(NamedTuple):
    """What is known about the checkpoints of a kind of model."""

    title: str
    """The kind's name in messages."""
    marks: tuple[str, ...]
    """Prefixes of tensor names that identify it."""
    place: Callable[[Mapping[str, Tensor]], Placed]
    """Gives a file's tensors our names."""
    expect: Callable[[Mapping[str, Tensor]], tuple[dict[str, Shape], dict[str, Any]]]
    """From placed tensors: name and shape of every tensor of the model, and the model's sizes by name."""


def _expect_latte(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Shape], dict[str, Any]]:
    found = latte.describe_latte(shapes_of(tensors))
    return latte.latte_layout(found), asdict(found)


LAYOUTS: dict[Kind, Layout] = {
    "latte": Layout("Latte checkpoint", latte.MARKS, latte.place_latte, _expect_latte),
    "vae": Layout("Stable Diffusion autoencoder", vae.MARKS, vae.place_vae, vae.vae_layout),
    "t2v": Layout("text-to-video transformer", latte_t2v.MARKS, latte_t2v.place_t2v, latte_t2v.t2v_layout),
}


@dataclass(frozen=True)
class Mapped:
    """A model's tensors by our names, complete, with checked shapes and types, read on demand."""

    kind: Kind
    weights: Weights
    tensors: Mapping[str, Tensor]
    sources: Mapping[str, str]
    """Each tensor's name in the file."""
    ignored: Mapping[str, str]
    """Ignored entries of the file, and the reason."""
    sizes: Mapping[str, Any]
    """The model's sizes by name; for kind latte the fields of `LatteDescription`."""

    def parameters(self) -> int:
        """Total number of parameters."""
        return sum(prod(tensor.shape) for tensor in self.tensors.values())

    def read(self, name: str) -> Bits:
        """Read a tensor; bfloat16 as float32 with the same values.

        Raises LatteError if it is damaged.
        """
        return widen(self.tensors[name].bits(), self.tensors[name].dtype)


class LazyWeights(Mapping[str, NDArray[Any]]):
    """A file's tensors by name, each read on access.

    A tensor's pages are released when the next is accessed, so that copying all of them does not need twice
    the memory.
    """

    def __init__(self, mapped: Mapped):
        self.mapped = mapped
        self._last: Tensor | None = None

    def __getitem__(self, name: str) -> NDArray[Any]:
        if self._last is not None:
            self._last.release()
        self._last = self.mapped.tensors[name]
        return self.mapped.read(name)

    def __contains__(self, name: object) -> bool:
        return name in self.mapped.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.mapped.tensors)

    def __len__(self) -> int:
        return len(self.mapped.tensors)


def find_kind(names: list[str]) -> Kind:
    """The kind of model that the names belong to. Raises RefusedError if it is unknown."""
    scores = {kind: sum(_has(names, mark) for mark in layout.marks) for kind, layout in LAYOUTS.items()}
    best = max(scores, key=scores.__getitem__)
    if not scores[best]:
        expected = " or ".join(f"a {layout.title}" for layout in LAYOUTS.values())
        raise RefusedError(f"contains {several(names)}, expected {expected}")
    return best


def map_weights(weights: Weights, kind: Kind | Literal["auto"] = "auto") -> Mapped:
    """Rename and check the tensors of a file.

    Raises LatteError naming tensors that are missing, unexpected, of the wrong shape or not floats, or if the
    file contains another model.
    """
    try:
        return _map(weights, kind)
    except RefusedError as refusal:
        raise LatteError(f"{weights.path}: {refusal}") from refusal


def load_latte(path: Path, *, weights: Choice = "auto") -> Mapped:
    """Open a Latte checkpoint of any format.

    Raises LatteError with the problem and the command that creates a correct file.
    """
    try:
        return map_weights(open_weights(path, weights=weights, kind="latte"), "latte")
    except LatteError as error:
        target = path.with_suffix(".ckpt").name
        command = f"latte convert --kind latte --source <original> --target {target} --force"
        raise LatteError(f"{error}; to create it again: {command}") from error


def _map(weights: Weights, requested: Kind | Literal["auto"]) -> Mapped:
    kind = find_kind(list(weights.names))
    if requested not in ("auto", kind):
        raise RefusedError(f"is a {LAYOUTS[kind].title}, expected a {LAYOUTS[cast(Kind, requested)].title}")
    layout = LAYOUTS[kind]
    placed = layout.place(weights.tensors)
    expected, sizes = layout.expect(placed.tensors)
    check_layout(placed.tensors, expected, what=layout.title)
    _check_numbers(placed.tensors, weights.size())
    originals = weights.originals
    sources = {name: originals[placed.sources[name]] for name in expected}
    left = {originals[name]: reason for name, reason in placed.ignored.items()}
    tensors = {name: placed.tensors[name] for name in expected}
    return Mapped(kind, weights, tensors, sources, {**weights.ignored, **left}, sizes)


def _has(names: list[str], mark: str) -> bool:
    return any(name.startswith(mark) for name in names)


def _check_numbers(tensors: Mapping[str, Tensor], file_size: int) -> None:
    others = [name for name, tensor in tensors.items() if tensor.dtype.name not in FLOATS]
    if others:
        raise RefusedError(f"{several(others)}: found {tensors[others[0]].dtype.name}, expected floats")
    empty = [name for name, tensor in tensors.items() if not prod(tensor.shape)]
    if empty:
        raise RefusedError(f"{several(empty)}: found no numbers")
    claimed = sum(nbytes(tensor) for tensor in tensors.values())
    if claimed > 2 * file_size + MAX_OVERLAP_BYTES:
        raise RefusedError(f"its tensors claim {claimed} bytes, the file has {file_size}")
