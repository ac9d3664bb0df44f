"""The one exception that a user can cause and fix, and how its text is made safe to print."""


class LatteError(Exception):
    """Something a user can fix: names the file or setting, what was found, what was wanted; one line."""


def printable(text: str) -> str:
    """Text from users or files, with what a terminal would obey written out: an escape becomes \\x1b."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
