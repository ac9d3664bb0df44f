"""The exception for errors that a user can fix, and helpers for the wording of its messages."""

import errno

_SHOWN = 60  # characters of a value
_LONG_BITS = 192  # of an integer: at most 58 digits
_LONGEST_NAME = 200  # characters of a file's name that is too long

# Errors of the system rather than of the program. Others, such as a missing file, are handled where they
# can happen.
_SYSTEM_FAULTS = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOMEM}
    | {errno.ELOOP, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE, errno.ESTALE}
)


class LatteError(Exception):
    """An error that a user can fix: one line with the file or setting, what was found, what was expected.

    Several such errors are a heading and one line each.
    """

    def __init__(self, line: str, *more: str):
        super().__init__(line, *more)

    def __str__(self) -> str:
        return "\n  ".join(self.args)

    def shown(self) -> str:
        """The lines as printed; a line break in the name of a file starts no line."""
        return "\n  ".join(map(one_line, self.args))


def printable(text: str) -> str:
    """Escape control characters except line breaks in text from users or files: an escape becomes \\x1b."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def is_unicode(text: str) -> bool:
    """Whether text can be written as UTF-8; an argument or a name in another encoding contains surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def one_line(text: object) -> str:
    """Escape control characters and line breaks, such as those in the names of files."""
    return printable(str(text)).replace("\n", "\\n")


def found(value: object, expected: str) -> str:
    """The standard wording: `found 3, expected an even number`."""
    return f"found {shown_value(value)}, expected {expected}"


def shown_value(value: object) -> str:
    """A value as in YAML, on one line, truncated if long."""
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
    """The message for an error of the system (disk full, no permission), None for any other."""
    if error.errno not in _SYSTEM_FAULTS:
        return None
    reason = error.strerror or str(error)
    if error.filename is None:
        return reason
    name = str(error.filename)
    return f"{name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + '...'}: {reason}"
