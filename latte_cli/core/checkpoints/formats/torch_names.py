"""The names that a PyTorch pickle may use, and the inert records they become.

The table contains only what weights files need: containers, storages, the functions used by PyTorch's
`Tensor.__reduce_ex__`, and a few objects found next to weights in training checkpoints. None of it is
PyTorch's code: each name becomes a record of this module.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from latte_cli.core.checkpoints.dtypes import DTYPES, TORCH_NAMES, TORCH_STORAGES, Dtype
from latte_cli.core.checkpoints.formats.pickles import Inert, Known, plain_key
from latte_cli.core.checkpoints.limits import MAX_DIMENSIONS, MAX_NAME_BYTES, MAX_TENSORS, RefusedError, shown


@dataclass(eq=False)
class StorageClaim:
    """A storage as described by the pickle, not yet checked against the file."""

    key: str
    dtype: Dtype | None
    count: int

    @property
    def nbytes(self) -> int:
        return self.count * (self.dtype.bits.itemsize if self.dtype else 1)


class View(NamedTuple):
    """A storage and, for the oldest files, the element at which this view starts."""

    claim: StorageClaim
    start: int


@dataclass(frozen=True)
class TensorClaim:
    """A tensor as described by the pickle; offset and strides in elements."""

    storage: StorageClaim
    dtype: Dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Claims:
    """Converts persistent ids to storages, one per key. Raises RefusedError if two ids disagree."""

    def __init__(self) -> None:
        self.by_key: dict[str, StorageClaim] = {}

    def __call__(self, persistent_id: object) -> View:
        """The storage of a persistent id."""
        if (
            type(persistent_id) is not tuple
            or len(persistent_id) not in (5, 6)
            or persistent_id[0] != "storage"
        ):
            raise RefusedError("its pickle refers to a storage in an unknown way")
        _, kind, key, _, count, *view = persistent_id
        is_kind = isinstance(kind, Known) and isinstance(kind.value, _StorageKind)
        if not (is_kind and _is_key(key) and type(count) is int and count >= 0):
            raise RefusedError("its pickle refers to a storage in an unknown way")
        claim = self.by_key.setdefault(str(key), StorageClaim(str(key), kind.value.dtype, count))
        if (claim.dtype, claim.count) != (kind.value.dtype, count):
            raise RefusedError(f"its pickle describes storage {shown(str(key))} in two ways")
        if len(self.by_key) > MAX_TENSORS:
            raise RefusedError(f"its pickle refers to more than {MAX_TENSORS} storages")
        return View(claim, _view_offset(view[0]) if view else 0)


@dataclass(frozen=True)
class _StorageKind:
    dtype: Dtype | None


def _is_key(key: object) -> bool:
    return type(key) is str and 0 < len(key) <= MAX_NAME_BYTES


def _view_offset(view: object) -> int:
    if view is None:
        return 0
    if type(view) is tuple and len(view) == 3 and type(view[1]) is int and view[1] >= 0:
        return view[1]
    raise RefusedError("its pickle describes part of a storage in an unknown way")


def _sizes(value: object) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or len(value) > MAX_DIMENSIONS:
        raise RefusedError("its pickle describes a tensor in an unknown way")
    if not all(type(size) is int and 0 <= size < 1 << 48 for size in value):
        raise RefusedError("a tensor has an invalid size, stride or offset")
    return tuple(value)


def _tensor(arguments: tuple[Any, ...], dtype: Dtype | None = None) -> TensorClaim:
    """`_rebuild_tensor(storage, offset, size, stride)` and its successors, which add arguments."""
    if len(arguments) < 4 or not isinstance(arguments[0], View):
        raise RefusedError("its pickle describes a tensor in an unknown way")
    claim, start = arguments[0]
    dtype = dtype or claim.dtype
    if dtype is None:
        raise RefusedError("its pickle describes a tensor without a data type")
    offset = _sizes((arguments[1],))[0] + start
    return TensorClaim(claim, dtype, offset, _sizes(arguments[2]), _sizes(arguments[3]))


def _tensor_with_dtype(arguments: tuple[Any, ...]) -> TensorClaim:
    """`_rebuild_tensor_v3`: the data type is the seventh argument."""
    if len(arguments) < 7 or not (isinstance(arguments[6], Known) and isinstance(arguments[6].value, Dtype)):
        raise RefusedError("its pickle describes a tensor in an unknown way")
    return _tensor(arguments, arguments[6].value)


def _parameter(arguments: tuple[Any, ...]) -> TensorClaim:
    if not arguments or not isinstance(arguments[0], TensorClaim):
        raise RefusedError("its pickle describes a parameter in an unknown way")
    return arguments[0]


def _subclass(arguments: tuple[Any, ...]) -> object:
    """`_rebuild_from_type_v2(function, type, arguments, state)`: the function's result, without the state."""
    if len(arguments) < 3 or not isinstance(arguments[0], Known) or type(arguments[2]) is not tuple:
        raise RefusedError("its pickle describes a tensor in an unknown way")
    build = _TENSOR_FUNCTIONS.get(arguments[0].name)
    if build is None:
        raise RefusedError("its pickle describes a tensor in an unknown way")
    return build(arguments[2])


def _dictionary(arguments: tuple[Any, ...]) -> dict[object, object]:
    """An empty dictionary, or Python 2's `OrderedDict([[key, value], ...])`."""
    pairs = arguments[0] if arguments and isinstance(arguments[0], list) else []
    if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
        raise RefusedError("its pickle describes a dictionary in an unknown way")
    return {plain_key(key): value for key, value in pairs}


def _size(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    return _sizes(arguments[0] if arguments else ())


_TENSOR_FUNCTIONS = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_with_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
_CONTAINERS = {
    "collections.OrderedDict": _dictionary,
    "collections.defaultdict": lambda _: {},
    "torch.Size": _size,
    "torch._tensor._rebuild_from_type_v2": _subclass,
}
# Objects found next to weights in training checkpoints; they are ignored.
_LEAVES = [
    "argparse.Namespace",
    "torch.device",
    "torch.Tensor",
    "torch.nn.parameter.Parameter",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    *(
        f"{module}.{name}"
        for module in ("builtins", "__builtin__")
        for name in ("set", "dict", "list", "int", "float")
    ),
]


def _leaf(name: str) -> Known:
    return Known(name, lambda _: Inert(name))


TABLE = {
    **{name: Known(name, build) for name, build in (_TENSOR_FUNCTIONS | _CONTAINERS).items()},
    **{name: _leaf(name) for name in _LEAVES},
    **{f"torch.{name}": Known(name, None, _StorageKind(dtype)) for name, dtype in TORCH_STORAGES.items()},
    **{f"torch.{name}": Known(name, None, dtype) for name, dtype in TORCH_NAMES.items() if name in DTYPES},
    "torch.storage.UntypedStorage": Known("UntypedStorage", None, _StorageKind(None)),
}
