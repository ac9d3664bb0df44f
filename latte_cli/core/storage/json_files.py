"""Read JSON from regular files of bounded size and depth, validated by pydantic models.

Files are untrusted. An error is one line: the file, the line of a JSON-lines file, the field, what was found
and what was expected. pydantic's parser limits the depth and the length of numbers.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from latte_cli.core.errors import LatteError, found

MAX_BYTES = 8 << 20  # validation may take 100 times this in memory, if every value is invalid
BULKY_BYTES = 1 << 30  # limit for a file with one entry per video
FAULTS_NAMED = 1000  # a file with more errors than this is rejected without naming one
MAX_LINE_BYTES = 1 << 20  # limit for a line of a JSON-lines file
LONGEST_FIELD = 200  # characters of a field's path in a message
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1, le=1 << 16)]
"""A dimension of a model, such as a width or a number of layers, within the accepted range."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in hexadecimal."""

Kind = TypeVar("Kind")
_adapters: dict[Any, TypeAdapter[Any]] = {}


class Model(BaseModel):
    """The contents of a JSON file, or of a line of one; unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())


def read_json(
    path: Path, kind: type[Kind], *, missing: str = "", expected: str = "", most: int = MAX_BYTES
) -> Kind:
    """Read a JSON file and validate it as `kind`.

    missing: advice for the message if the file does not exist. expected: description of the file for the
    message if it is not JSON.
    Raises LatteError if the file cannot be read, has more than `most` bytes, or does not validate.
    """
    try:
        with open_regular(path) as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        raise LatteError(f"{path}: no such file{missing and f'; {missing}'}") from None
    return parse_json(content, kind, source=str(path), expected=expected, most=most)


def parse_json(
    content: bytes, kind: type[Kind], *, source: str, expected: str = "", most: int = MAX_BYTES
) -> Kind:
    """Parse JSON and validate it as `kind`.

    Raises LatteError naming `source` and the invalid field, or if there are more than `most` bytes.
    """
    if len(content) > most:
        raise LatteError(
            f"{source}: found more than {most:,} bytes, expected {expected or 'a small JSON file'}"
        )
    try:
        return _adapter(kind).validate_json(content.removeprefix(BYTE_ORDER_MARK))
    except ValidationError as error:
        raise LatteError(f"{source}: {_fault(error, expected)}") from error


def check_json(content: object, kind: type[Kind], *, source: str) -> Kind:
    """Validate a parsed part of a JSON file as `kind`. Raises LatteError like `parse_json`."""
    try:
        return _adapter(kind).validate_python(content)
    except ValidationError as error:
        raise LatteError(f"{source}: {_fault(error)}") from error


def read_json_lines(
    path: Path, kind: type[Kind], *, expected: str = "a line of JSON", most: int = MAX_LINE_BYTES
) -> Iterator[tuple[int, Kind]]:
    """Yield the number and the validated contents of each non-empty line of a JSON-lines file.

    expected: description of a line, for the message if one is not JSON or has more than `most` bytes.
    Raises LatteError naming the invalid line, and FileNotFoundError if there is no file.
    """
    with open_regular(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(most + 1), b""), 1):
            source = f"{path}: line {number}"
            if line.strip():
                yield number, parse_json(line, kind, source=source, expected=expected, most=most)


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading. Pipes and devices, which may block forever, are rejected.

    Raises FileNotFoundError if it does not exist, LatteError if it cannot be opened or read.
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
    """The validator of a type, built once so that a line is validated in microseconds."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def _fault(error: ValidationError, expected: str = "") -> str:
    """The first validation error, in this program's wording."""
    if error.error_count() > FAULTS_NAMED:
        return f"found {error.error_count():,} invalid values, expected {expected or 'another file'}"
    detail = error.errors(include_url=False)[0]
    kind, field = detail["type"], _named(detail["loc"])
    context = detail.get("ctx", {})
    if kind == "json_invalid":
        text = f"cannot be read as JSON: {context['error']}"
        return f"{text}; expected {expected}" if expected else text
    if kind == "missing":
        return f"{field}: is missing"
    if kind == "extra_forbidden":
        return f"{field}: unknown key"
    text = found(detail["input"], _expected(kind, context, detail["msg"]))
    return f"{field}: {text}" if field else text


def _named(location: tuple[int | str, ...]) -> str:
    """A field's path on one line, escaped and truncated, because its keys are untrusted."""
    path = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in ".".join(map(str, location)))
    return path if len(path) <= LONGEST_FIELD else f"{path[:LONGEST_FIELD]}..."


_KINDS = {
    "int": "an integer",
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


def _expected(kind: str, context: dict[str, Any], message: str) -> str:
    """The expected value, from pydantic's error type and context."""
    if kind == "literal_error" and " or " not in context["expected"]:
        return str(context["expected"])
    if kind in _WORDS:
        return _WORDS[kind].format(**context)
    if kind == "value_error":
        return message.removeprefix("Value error, ").removeprefix("expected ")
    return _KINDS.get(kind.partition("_")[0], message)
