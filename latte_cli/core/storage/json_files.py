"""JSON that is read: regular files of bounded size and depth, whose values are checked by a pydantic model.

A file may be anybody's, so whatever is wrong with it is one line: the file, the line of a JSON-lines file,
the field, what was found and what was wanted. pydantic's parser bounds depth and the length of numbers.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from latte_cli.core.errors import LatteError, found

MAX_BYTES = (
    8 << 20
)  # of what is checked: each of its bytes may cost a hundred in memory, were all of it wrong
BULKY_BYTES = 1 << 30  # of a file with an entry a video
FAULTS_NAMED = 1000  # in one file: of more, no single one is looked for
MAX_LINE_BYTES = 1 << 20  # of a line of a JSON-lines file
LONGEST_FIELD = 200  # characters of a field's path in a message
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1, le=1 << 16)]
"""Of a model, as a width or a number of layers: what a configuration may say."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in hexadecimal."""

Kind = TypeVar("Kind")
_adapters: dict[Any, TypeAdapter[Any]] = {}


class Model(BaseModel):
    """What a JSON file or a line of one holds; keys that it does not know are passed over."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


def read_json(
    path: Path, kind: type[Kind], *, missing: str = "", wanted: str = "", most: int = MAX_BYTES
) -> Kind:
    """What a JSON file holds, as `kind`.

    missing: said of a file that is not there. wanted: what the file should be, said of one that is not JSON.
    Raises LatteError for a file that cannot be read, is longer than `most` bytes, or holds anything else.
    """
    try:
        with open_regular(path) as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        raise LatteError(f"{path}: no such file{missing and f'; {missing}'}") from None
    return parse_json(content, kind, source=str(path), wanted=wanted, most=most)


def parse_json(
    content: bytes, kind: type[Kind], *, source: str, wanted: str = "", most: int = MAX_BYTES
) -> Kind:
    """What JSON bytes hold, as `kind`.

    Raises LatteError naming `source` and the field at fault, or for more than `most` bytes.
    """
    if len(content) > most:
        raise LatteError(
            f"{source}: found more than {most:,} bytes, expected {wanted or 'a small JSON file'}"
        )
    try:
        return _adapter(kind).validate_json(content.removeprefix(BYTE_ORDER_MARK))
    except ValidationError as error:
        raise LatteError(f"{source}: {_fault(error, wanted)}") from error


def check_json(content: object, kind: type[Kind], *, source: str) -> Kind:
    """A part of what a JSON file holds, as `kind`. Raises LatteError as `parse_json`."""
    try:
        return _adapter(kind).validate_python(content)
    except ValidationError as error:
        raise LatteError(f"{source}: {_fault(error)}") from error


def read_json_lines(
    path: Path, kind: type[Kind], *, wanted: str = "a line of JSON", most: int = MAX_LINE_BYTES
) -> Iterator[tuple[int, Kind]]:
    """The number of each line of a JSON-lines file that is not empty, and what it holds, as `kind`.

    wanted: what a line should be, said of one that is not JSON or longer than `most` bytes.
    Raises LatteError naming the line at fault, FileNotFoundError where there is no file.
    """
    with open_regular(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(most + 1), b""), 1):
            source = f"{path}: line {number}"
            if line.strip():
                yield number, parse_json(line, kind, source=source, wanted=wanted, most=most)


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """A regular file, open for reading. A pipe or a device, which may never end, is not waited for.

    Raises FileNotFoundError where there is none, and LatteError when it cannot be opened or read.
    """
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
            raise LatteError(f"{path}: found {what}, expected a file")
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        raise LatteError(f"{path}: cannot be read: {error.strerror or error}") from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _adapter(kind: Any) -> TypeAdapter[Any]:
    """The adapter of a type, built once: a line of a file is checked in microseconds."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def _fault(error: ValidationError, wanted: str = "") -> str:
    """The first of pydantic's faults in this program's words."""
    if error.error_count() > FAULTS_NAMED:
        return f"found {error.error_count():,} wrong values, expected {wanted or 'another file'}"
    detail = error.errors(include_url=False)[0]
    kind, field = detail["type"], _named(detail["loc"])
    context = detail.get("ctx", {})
    if kind == "json_invalid":
        text = f"cannot be read as JSON: {context['error']}"
        return f"{text}; expected {wanted}" if wanted else text
    if kind == "missing":
        return f"{field}: is missing"
    if kind == "extra_forbidden":
        return f"{field}: unknown key"
    text = found(detail["input"], _wanted(kind, context, detail["msg"]))
    return f"{field}: {text}" if field else text


def _named(location: tuple[int | str, ...]) -> str:
    """A field's path on one line, cut when long: its keys may be anybody's."""
    path = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in ".".join(map(str, location)))
    return path if len(path) <= LONGEST_FIELD else f"{path[:LONGEST_FIELD]}..."


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "string": "text",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "keys and values",
    "model": "keys and values",
    "dataclass": "keys and values",
    "none": "null",
    "path": "a path",
}
_WORDS = {
    "greater_than_equal": "at least {ge:.12g}",
    "greater_than": "more than {gt:.12g}",
    "less_than_equal": "at most {le:.12g}",
    "less_than": "less than {lt:.12g}",
    "literal_error": "one of {expected}",
    "too_long": "at most {max_length} values",
    "too_short": "at least {min_length} values",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text of the form {pattern}",
}


def _wanted(kind: str, context: dict[str, Any], message: str) -> str:
    """What a value should have been, by pydantic's type of error and its context."""
    if kind == "literal_error" and " or " not in context["expected"]:
        return str(context["expected"])
    if kind in _WORDS:
        return _WORDS[kind].format(**context)
    if kind == "value_error":
        return message.removeprefix("Value error, ").removeprefix("expected ")
    return _KINDS.get(kind.partition("_")[0], message)
