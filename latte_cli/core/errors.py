"""The one exception that a user can cause and fix, and the wording of what its text shows."""

_SHOWN = 60  # characters of a value
_LONG_BITS = 192  # of a whole number: at most 58 digits


class LatteError(Exception):
    """Something a user can fix: names the file or setting, what was found, what was wanted; one line."""


def printable(text: str) -> str:
    """Text from users or files, with what a terminal would obey written out: an escape becomes \\x1b."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def found(value: object, wanted: str) -> str:
    """The usual wording: `found 3, wanted an even number`."""
    return f"found {shown_value(value)}, wanted {wanted}"


def shown_value(value: object) -> str:
    """A value as a YAML file would show it, on one line, cut when long."""
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, int) and value.bit_length() > _LONG_BITS:
        return f"a number of {value.bit_length()} bits"
    text = " ".join(str(value).split())
    text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
    return text if isinstance(value, int | float) else f'"{text}"'
