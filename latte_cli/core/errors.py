"""The one exception that a user can cause and fix, and the wording of what its text shows."""

import errno

_SHOWN = 60  # characters of a value
_LONG_BITS = 192  # of a whole number: at most 58 digits
_LONGEST_NAME = 200  # characters of a file's name that is too long

# What the system refuses through no fault of the program's. Others, as a missing file, are looked for where
# they can happen.
_SYSTEM_FAULTS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOMEM}
    | {errno.ELOOP, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE, errno.ESTALE}
)


class LatteError(Exception):
    """Something a user can fix: names the file or setting, what was found, what was wanted; one line."""


def printable(text: str) -> str:
    """Text from users or files, with what a terminal would obey written out: an escape becomes \\x1b."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def found(value: object, wanted: str) -> str:
    """The usual wording: `found 3, expected an even number`."""
    return f"found {shown_value(value)}, expected {wanted}"


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


def system_fault(error: OSError) -> str | None:
    """The line for an error that the system is to blame for (a full disk, no permission), else None."""
    if error.errno not in _SYSTEM_FAULTS:
        return None
    reason = error.strerror or str(error)
    if error.filename is None:
        return reason
    name = str(error.filename)
    return f"{name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + '...'}: {reason}"
