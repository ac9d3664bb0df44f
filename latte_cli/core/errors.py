"""The one exception that a user can cause and fix."""


class LatteError(Exception):
    """Something a user can fix: names the file or setting, what was found, what was wanted; one line."""
