"""Validation of file names read from other files: they must stay inside the folder they refer to."""

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated

from pydantic import AfterValidator

LONGEST = 255  # bytes of a name, the limit of common file systems


def relative(name: str) -> str:
    """Return a path relative to a folder unchanged; any characters are allowed.

    Raises ValueError if it leads out of the folder (an absolute path, `..`), is the folder itself, or
    contains a null character.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise ValueError("expected a path inside the folder")
    return name


def inside(name: str) -> str:
    """Return a relative path to a file that this program wrote, unchanged.

    Stricter than `relative`: also raises ValueError for Windows paths and for unprintable or too long names.
    """
    relative(name)
    if "\\" in name or PureWindowsPath(name).drive:
        raise ValueError("expected a path inside the folder")
    if not name.isprintable() or any(len(part.encode()) > LONGEST for part in PurePosixPath(name).parts):
        raise ValueError("expected a valid file name")
    return name


def file_name(name: str) -> str:
    """Return a file name without folders unchanged. Raises ValueError like `inside`."""
    if "/" in inside(name):
        raise ValueError("expected a file name without a folder")
    return name


def resolves_inside(folder: Path, name: str) -> bool:
    """Whether a file is inside a folder after following links; checked before changing or removing it."""
    return (folder / inside(name)).resolve().is_relative_to(folder.resolve())


RelativeName = Annotated[str, AfterValidator(relative)]
InsidePath = Annotated[str, AfterValidator(inside)]
FileName = Annotated[str, AfterValidator(file_name)]
