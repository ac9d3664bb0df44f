"""The one exception that a user can cause and fix."""


class LatteError(Exception):
    """Something a user can fix: names the file or setting, what was found and what was wanted, in one line."""
