"""What a validated graph contains that Ascend may not be able to run, by MindSpore's own documentation."""

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.ascend.statements import COLLECTIVES, exchanged, statement_of

NODE = re.compile(r"^ +(?P<name>%\d+)\([^)]*\) = (?P<primitive>\S+?)\((?P<rest>.*)")
TENSOR = re.compile(r"Tensor\[(?P<dtype>\w+)\]+(?:, (?:TupleShape\()?\((?P<shape>[-\d, ]*)\))?")
STRUCTURE = {
    *("Depend", "Load", "MakeTuple", "TupleGetItem", "UpdateState", "make_list"),
    *("Partial", "Switch", "call"),
}
"""Nodes that move values within a graph, or choose a part of it: no device executes them."""
CALL = "%"  # begins the name of a node that calls what a Switch has chosen
ON_THE_HOST = {"Custom", "Print", "PyExecute", "PyFunc", "PyInterpret", "HostCallback"}
"""Nodes that call Python, or a library that was compiled for a CPU."""
WIDE = ("Float64", "Complex64", "Complex128", "Int64", "UInt64")
"""Element types that no graph needs: sizes and axes are numbers, not tensors."""


class Node(NamedTuple):
    """An operator of a graph, and the tensors that it reads and writes as (element type, shape)."""

    primitive: str
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]


def nodes(graph: str) -> Iterator[Node]:
    """The operators of a validated graph as MindSpore writes it to a file."""
    lines = graph.splitlines()
    for line, types in itertools.pairwise(lines):
        found = NODE.match(line)
        if found:
            read, _, written = types.partition(") -> (")
            name = found["primitive"].removeprefix("PrimFunc_")
            yield Node("call" if name.startswith(CALL) else name, _tensors(read), _tensors(written))


def _tensors(types: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(
        (dtype, tuple(int(side) for side in shape.split(",") if side.strip()))
        for dtype, shape in TENSOR.findall(types)
    )


def primitives(graph: str) -> set[str]:
    """The names of a graph's operators, without those that only move values."""
    return {node.primitive for node in nodes(graph)} - STRUCTURE


def exchanges(graph: str) -> list[tuple[str, tuple[int, ...]]]:
    """The exchanges between workers in their order, each with the shape of what is exchanged."""
    found = [node for node in nodes(graph) if node.primitive in COLLECTIVES]
    return [(node.primitive, node.inputs[0][1]) for node in found]


def needs(graph: str, *operators: str) -> list[int]:
    """How many of these operators each exchange between workers waits for, as it needs their results.

    Other operators may run in any order.
    """
    needed: dict[str, set[int]] = {}
    counts = []
    for place, found in enumerate(filter(None, map(NODE.match, graph.splitlines()))):
        operands = re.findall(r"%\d+", found["rest"].partition(" primitive_attrs")[0])
        before = set.union(set(), *(needed.get(name, set()) for name in operands))
        if found["primitive"] in COLLECTIVES:
            counts.append(len(before))
        needed[found["name"]] = before | {place} if found["primitive"] in operators else before
    return counts


def findings(graph: str) -> set[str]:
    """One line for each thing in a graph that Ascend does not run, or runs slowly, by the documentation."""
    return {line for node in nodes(graph) for line in _of_node(node)}


def _of_node(node: Node) -> Iterator[str]:
    name = node.primitive
    if name in STRUCTURE:
        return
    if name in ON_THE_HOST:
        yield f"{name}: runs on the host"
        return
    statement = statement_of(name)
    if statement is not None and "Ascend" not in statement.platforms:
        yield f"{name}: for {', '.join(sorted(statement.platforms))} only, by {statement.source}"
    for dtype, shape in node.inputs + node.outputs:
        if dtype in WIDE:
            yield f"{name}: {dtype}"
        if any(side < 0 for side in shape):
            yield f"{name}: a shape that is not known when the graph is compiled"
    for dtype, _ in node.inputs:
        if statement is not None and statement.dtypes and _floating(dtype) not in (None, *statement.dtypes):
            expected = ", ".join(sorted(statement.dtypes))
            yield f"{name}: {dtype}, expected one of {expected}, by {statement.source}"
        if name in COLLECTIVES and dtype.lower() not in exchanged():
            yield f"{name}: {dtype}, expected one of {', '.join(sorted(exchanged()))}, by comm_ops"


def _floating(dtype: str) -> str | None:
    return dtype.lower() if "Float" in dtype else None
