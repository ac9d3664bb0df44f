"""What the installed MindSpore documents of an operator: its platforms and element types."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import mindspore
from mindspore import dtype, mint, ops
from mindspore.ops import auto_generate, operations
from mindspore.ops.auto_generate import gen_ops_prim
from mindspore.ops.operations import _grad_ops, _inner_ops, comm_ops

PLATFORMS = re.compile(r"Supported Platforms:\s*\n\s*(.+)")
REFERENCE = re.compile(r"Refer to :(?:func|class):`~?(mindspore\.[\w.]+)`")
COLLECTIVES = ("AllReduce", "Broadcast")
"""Exchanges between workers, whose documentation names no element types."""
TYPES = ("bool_", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
TYPES += ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Statement:
    """An operator's documentation: where it is, and the platforms and floating-point types that it names.

    Without types, they are not checked.
    """

    source: str
    platforms: frozenset[str]
    dtypes: frozenset[str]


def statement_of(primitive: str) -> Statement | None:
    """The documentation of a primitive that names its platforms; None where MindSpore has none.

    A primitive's own documentation may refer to that of the function which it implements.
    """
    for name, documented in _documented(primitive):
        text = inspect.getdoc(documented) or ""
        found = PLATFORMS.search(text)
        platforms = re.findall(r"``(\w+)", found[1]) if found else []
        if platforms:  # of a deprecated one nothing is said
            return Statement(name, frozenset(platforms), frozenset(_dtypes(text)))
    return None


@cache
def exchanged() -> frozenset[str]:
    """The element types that workers exchange, by MindSpore's own check for devices other than GPUs."""
    found = set()
    for name in TYPES:
        try:
            tensor = dtype.TensorType(getattr(mindspore, name))
            comm_ops.check_collective_target_dtype("x", tensor, "AllReduce")
        except TypeError:
            continue
        found.add(name)
    return frozenset(found)


def _dtypes(text: str) -> set[str]:
    """Floating-point types in the sentences that list what an input may be on Ascend."""
    prose = text.partition("Examples:")[0]
    lines = [line for line in prose.splitlines() if not re.match(r"\s*- (CPU|GPU):", line)]
    named = [set(re.findall(r"\bb?float\d\d\b", line)) for line in lines]
    return set.union(set(), *(types for types in named if len(types) > 1))


def _documented(primitive: str) -> Iterator[tuple[str, Any]]:
    for module in (gen_ops_prim, operations, _grad_ops, _inner_ops):
        operator = getattr(module, primitive, None)
        if operator is None:
            continue
        yield f"{module.__name__}.{primitive}", operator
        for name in REFERENCE.findall(inspect.getdoc(operator) or ""):
            function: Any = mindspore
            for part in name.split(".")[1:]:
                function = getattr(function, part, None)
            if function is not None:
                yield name, function
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", primitive).lower()
    for module, prefix in (
        (ops, "mindspore.ops"),
        (mint, "mindspore.mint"),
        (auto_generate, "auto_generate"),
    ):
        function = getattr(module, snake, None)
        if function is not None:
            yield f"{prefix}.{snake}", function
