"""Error messages for experiment files: the setting, what was found and what was expected."""

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from latte_cli.core.errors import found
from latte_cli.core.settings.schema import Settings
from latte_cli.core.settings.section import NOT_A_NAME, NOT_UTF_8, Section

_KINDS: dict[object, str] = {
    int: "an integer",
    float: "a number",
    str: "text",
    bool: "true or false",
    Path: "a path",
}
_LISTED: dict[object, str] = {int: "integers", str: "texts"}
_BOUNDS = {
    "ge": "at least",
    "gt": "more than",
    "le": "at most",
    "lt": "less than",
    "multiple_of": "a multiple of",
}
_TEXTS = {NOT_UTF_8: "valid UTF-8", NOT_A_NAME: "a valid path: this one is too long or contains \\0"}
LONGEST_PATH = 100  # characters of a setting's path in a message
_LEAST_LIKENESS = 0.6  # minimum similarity of a useful suggestion


class Fault(NamedTuple):
    """One error: the setting's path, the explanation, and the other settings it depends on."""

    path: str
    text: str
    judged_by: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line."""
        path = self.path if len(self.path) <= LONGEST_PATH else f"{self.path[:LONGEST_PATH]}..."
        return f"{path}: {self.text}" if path else self.text


def faults_of(error: ValidationError) -> Iterator[Fault]:
    """The faults of a validation error, one per setting."""
    seen = set()
    for detail in error.errors(include_url=False, include_context=False):
        path, field = _field_at(detail["loc"])
        if path in seen:
            continue
        seen.add(path)
        if field is None:
            yield Fault(path, _unknown(path))
        else:
            special = (text for sign, text in _TEXTS.items() if sign in detail["msg"])
            expected = next(special, expected_of(field))
            yield Fault(path, found(detail["input"], expected))


def known_keys(section: type[Section] = Settings, prefix: str = "") -> list[str]:
    """Every key of the experiment file as a dotted path, including sections."""
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        if (inner := section_of(field)) is not None:
            keys += known_keys(inner, f"{prefix}{name}.")
    return keys


def section_of(field: FieldInfo) -> type[Section] | None:
    """The section that a field contains, or None for a plain setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def nearest(path: str, known: list[str]) -> str | None:
    """The known path most similar to `path`, preferring its section; None if none is similar enough."""

    def likeness(candidate: str) -> float:
        section, _, name = path.rpartition(".")
        other_section, _, other_name = candidate.rpartition(".")
        names = SequenceMatcher(None, name, other_name).ratio()
        return names if section == other_section else names - 0.1

    if len(path) > LONGEST_PATH:
        return None
    best = max(known, key=likeness)
    return best if likeness(best) >= _LEAST_LIKENESS else None


def _unknown(path: str) -> str:
    near = nearest(path, known_keys())
    if near is not None:
        return f"unknown key; did you mean {near}?"
    section = path.rpartition(".")[0]
    here = [name for key in known_keys() for parent, _, name in [key.rpartition(".")] if parent == section]
    return f"unknown key; expected one of {', '.join(here)}"


def _field_at(location: tuple[int | str, ...]) -> tuple[str, FieldInfo | None]:
    """Convert a pydantic location to a dotted path, without list indices and union branches, and a field."""
    section: type[Section] | None = Settings
    names: list[str] = []
    field: FieldInfo | None = None
    for part in location:
        if section is None:
            break
        names.append(str(part))
        field = section.model_fields.get(str(part))
        section = section_of(field) if field is not None else None
    return ".".join(names), field


def expected_of(field: FieldInfo) -> str:
    """The values that a setting accepts, from its type and bounds."""
    if section_of(field) is not None:
        return "keys and values"
    kinds = [_kind(kind) for kind in _alternatives(field.annotation) if kind is not NoneType]
    text = ", ".join([*kinds, *_bounds(field.metadata)])
    if field.examples:
        text += f" such as {field.examples[0]}"
    return f"{text}, or null" if NoneType in _alternatives(field.annotation) else text


def _bounds(limits: Iterable[Any]) -> list[str]:
    return [
        f"{words} {_number(getattr(limit, name))}"
        for limit in limits
        for name, words in _BOUNDS.items()
        if getattr(limit, name, None) is not None
    ]


def _number(limit: float) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        return str(choices[0]) if len(choices) == 1 else f"one of {', '.join(choices)}"
    if get_origin(annotation) is Annotated:
        kind, field = get_args(annotation)
        return f"{_kind(kind)} {' and '.join(_bounds(field.metadata))}"
    if get_origin(annotation) is tuple:
        return f"a list of {_LISTED[get_args(annotation)[0]]}"
    return _KINDS[annotation]
