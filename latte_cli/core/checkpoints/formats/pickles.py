"""Read pickles as data with a small interpreter that can build containers and nothing else.

Why it is safe:
- It never imports, looks up or calls anything that a pickle refers to. Names are looked up in a table given
  by the caller; a name outside the table is an error, even in an entry that is not needed. The table contains
  functions of this package that create inert records.
- Instructions that call constructors in other ways (INST, OBJ, NEWOBJ_EX, extension codes, out-of-band data,
  textual persistent ids) are rejected. BUILD discards attributes or keeps them as data (`Described`).
- Time: instructions and the entries they move are limited by `MAX_PICKLE_STEPS`; nothing recurses.
- Memory: an instruction creates at most one object, no larger than the bytes it consumes, and lengths are
  first compared with the available bytes. Sharing (memo, DUP) creates references, never copies. Dictionary
  keys that could be slow to hash or compare (nested tuples, long integers) are replaced by a placeholder.
- Integers have at most 128 bits, so that printing and multiplying them is fast.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from latte_cli.core.checkpoints.limits import (
    MAX_INTEGER_BYTES,
    MAX_NAME_BYTES,
    MAX_PICKLE_BYTES,
    MAX_PICKLE_STEPS,
    RefusedError,
    shown,
)

_LONGEST_LINE = 2 * MAX_NAME_BYTES


class Known(NamedTuple):
    """A name that a pickle may use: `value` is the object it refers to, `build` the result of calling it."""

    name: str
    build: Callable[[tuple[Any, ...]], object] | None = None
    value: object = None


class Inert(NamedTuple):
    """A placeholder for an object that is not needed; operations on it do nothing."""

    name: str


@dataclass(eq=False)
class Described:
    """An object as described by its pickle: class name, constructor arguments and state."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: object = None


class Table(Protocol):
    """The names that a pickle may use, as "module.name"; a dictionary will do."""

    def get(self, name: str, /) -> Known | None: ...


Persistent = Callable[[object], object]


def read_pickle(
    content: memoryview, start: int, *, table: Table, persistent: Persistent
) -> tuple[object, int]:
    """Read the pickle at `start`; return its object and the position after it.

    table: the names it may use. persistent: converts a persistent id to an object.
    Raises RefusedError if the pickle is damaged, uses something unknown or is too large.
    """
    return _Machine(content, start, table=table, persistent=persistent).run()


class _Machine:
    def __init__(self, content: memoryview, start: int, *, table: Table, persistent: Persistent) -> None:
        self.content, self.at = content, start
        self.end = min(len(content), start + MAX_PICKLE_BYTES)
        self.table, self.persistent = table, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.steps = 0

    def run(self) -> tuple[object, int]:
        while True:
            self.spend(1)
            instruction = self.take(1)[0]
            if instruction == _STOP:
                return self.pop(), self.at
            operation = _OPERATIONS.get(instruction)
            if operation is None:
                raise RefusedError(
                    f"its pickle uses an instruction that weights do not need (0x{instruction:02x})"
                )
            operation(self)

    # Bytes.

    def spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_PICKLE_STEPS:
            raise RefusedError(f"its pickle takes more than {MAX_PICKLE_STEPS} steps")

    def take(self, count: int) -> memoryview:
        start = self.at
        if count > self.end - start:
            raise RefusedError("is truncated or not a PyTorch file: its pickle ends too early")
        self.at = start + count
        return self.content[start : self.at]

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        window = bytes(self.content[self.at : min(self.end, self.at + _LONGEST_LINE)])
        length = window.find(b"\n")
        if length < 0:
            raise RefusedError("is truncated or not a PyTorch file: a name in its pickle does not end")
        self.at += length + 1
        return _text(window[:length])

    # The stack.

    def push(self, item: object) -> None:
        self.stack.append(item)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise RefusedError("its pickle is malformed: it pops from an empty stack")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise RefusedError("its pickle is malformed: a mark is missing")
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        self.spend(len(items))
        return items

    def top(self) -> Any:
        item = self.pop()
        self.push(item)
        return item

    # Instructions of more than one line.

    def look_up(self, module: str, name: str) -> None:
        known = self.table.get(f"{module}.{name}")
        if known is None:
            raise RefusedError(f"its pickle calls for {shown(f'{module}.{name}')}, which weights do not need")
        self.push(known)

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise RefusedError("its pickle is malformed: a name is not text")
        self.look_up(module, name)

    def call(self) -> None:
        arguments, known = self.pop(), self.pop()
        if not isinstance(known, Known) or known.build is None or type(arguments) is not tuple:
            raise RefusedError("its pickle calls something that weights do not need")
        self.spend(_size_of(arguments))
        self.push(known.build(arguments))

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if isinstance(target, Described) and target.state is None:
            target.state = state
        elif not isinstance(target, (dict, Inert)):
            raise RefusedError("its pickle sets attributes of something that has none")

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        if len(items) % 2 or not isinstance(target, (dict, Inert)):
            raise RefusedError("its pickle is malformed: items for something that holds none")
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[plain_key(key)] = value

    def append_items(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, (list, Inert)):
            raise RefusedError("its pickle is malformed: items for something that holds none")
        if isinstance(target, list):
            target.extend(items)

    def dictionary(self) -> None:
        items = self.pop_to_mark()
        self.push({})
        self.set_items(items)

    def tuple_of(self, count: int) -> None:
        self.push(tuple([self.pop() for _ in range(count)][::-1]))

    def integer(self, length: int) -> None:
        if length > MAX_INTEGER_BYTES:
            raise RefusedError(f"its pickle holds an integer of {length} bytes")
        self.push(int.from_bytes(self.take(length), "little", signed=True))

    def remember(self, index: int) -> None:
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise RefusedError("its pickle is malformed: it recalls what it never stored")
        self.push(self.memo[index])

    def protocol(self) -> None:
        if self.take(1)[0] > 5:
            raise RefusedError("its pickle is of an unknown protocol")


class Placeholder:
    """Stands for a dictionary key that is neither text nor a small number."""


def plain_key(key: object) -> object:
    """The key itself when it is cheap to hash and compare, else a placeholder equal to nothing else."""
    if isinstance(key, int):
        return key if -(1 << 63) <= key < 1 << 64 else Placeholder()
    return key if key is None or type(key) in (str, bytes, float) else Placeholder()


def _size_of(arguments: tuple[Any, ...]) -> int:
    return sum(len(item) for item in arguments if isinstance(item, (list, tuple))) + len(arguments)


def _text(content: bytes | memoryview) -> str:
    try:
        return str(content, "utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise RefusedError("its pickle contains text that is not UTF-8") from error


def _old_text(content: memoryview) -> str:
    return str(content, "latin-1")  # Python 2's str


_STOP = ord(".")
_OPERATIONS: dict[int, Callable[[_Machine], object]] = {
    ord(code): operation
    for code, operation in {
        "\x80": lambda m: m.protocol(),
        "\x95": lambda m: m.take(8),  # FRAME: a hint for streams
        "(": lambda m: m.marks.append(len(m.stack)),
        "0": lambda m: m.pop(),
        "1": lambda m: m.pop_to_mark(),
        "2": lambda m: m.push(m.top()),
        "N": lambda m: m.push(None),
        "\x88": lambda m: m.push(True),
        "\x89": lambda m: m.push(False),
        "J": lambda m: m.push(m.number("<i")),
        "K": lambda m: m.push(m.number("<B")),
        "M": lambda m: m.push(m.number("<H")),
        "G": lambda m: m.push(m.number(">d")),
        "\x8a": lambda m: m.integer(m.number("<B")),
        "\x8b": lambda m: m.integer(m.number("<I")),
        "X": lambda m: m.push(_text(m.take(m.number("<I")))),
        "\x8c": lambda m: m.push(_text(m.take(m.number("<B")))),
        "\x8d": lambda m: m.push(_text(m.take(m.number("<Q")))),
        "T": lambda m: m.push(_old_text(m.take(m.number("<I")))),
        "U": lambda m: m.push(_old_text(m.take(m.number("<B")))),
        "B": lambda m: m.push(bytes(m.take(m.number("<I")))),
        "C": lambda m: m.push(bytes(m.take(m.number("<B")))),
        "\x8e": lambda m: m.push(bytes(m.take(m.number("<Q")))),
        "\x96": lambda m: m.push(bytes(m.take(m.number("<Q")))),
        "}": lambda m: m.push({}),
        "]": lambda m: m.push([]),
        ")": lambda m: m.push(()),
        "\x8f": lambda m: m.push(Inert("set")),
        "\x91": lambda m: (m.pop_to_mark(), m.push(Inert("frozenset"))),
        "d": lambda m: m.dictionary(),
        "l": lambda m: m.push(m.pop_to_mark()),
        "t": lambda m: m.push(tuple(m.pop_to_mark())),
        "\x85": lambda m: m.tuple_of(1),
        "\x86": lambda m: m.tuple_of(2),
        "\x87": lambda m: m.tuple_of(3),
        "s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
        "u": lambda m: m.set_items(m.pop_to_mark()),
        "a": lambda m: m.append_items([m.pop()]),
        "e": lambda m: m.append_items(m.pop_to_mark()),
        "\x90": lambda m: m.append_items(m.pop_to_mark()),
        "q": lambda m: m.remember(m.number("<B")),
        "r": lambda m: m.remember(m.number("<I")),
        "\x94": lambda m: m.remember(len(m.memo)),
        "h": lambda m: m.recall(m.number("<B")),
        "j": lambda m: m.recall(m.number("<I")),
        "c": lambda m: m.look_up(m.line(), m.line()),
        "\x93": lambda m: m.stack_global(),
        "R": lambda m: m.call(),
        "\x81": lambda m: m.call(),
        "b": lambda m: m.build(),
        "Q": lambda m: m.push(m.persistent(m.pop())),
    }.items()
}
