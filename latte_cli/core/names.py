"""Names of files that other files give: they stay inside the folder that they are looked up in."""

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated

from pydantic import AfterValidator

LONGEST = 255  # bytes of a name, as file systems bound it


def inside(name: str) -> str:
    """A relative path, unchanged.

    Raises ValueError when it leads out of its folder on any system (an absolute path, a drive, a backslash,
    `..`), names the folder itself, or is no name that a file can have.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise ValueError("wanted a path inside the folder")
    if "\\" in name or PureWindowsPath(name).drive:
        raise ValueError("wanted a path inside the folder")
    if not name.isprintable() or any(len(part.encode()) > LONGEST for part in path.parts):
        raise ValueError("wanted a name that a file can have")
    return name


def beside(name: str) -> str:
    """The name of a file in a folder, not in one below it; unchanged. Raises ValueError as `inside` does."""
    if "/" in inside(name):
        raise ValueError("wanted the name of a file beside it")
    return name


def resolves_inside(folder: Path, name: str) -> bool:
    """Whether a file, its links followed, is in a folder: asked before one is changed or removed."""
    return (folder / inside(name)).resolve().is_relative_to(folder.resolve())


InsidePath = Annotated[str, AfterValidator(inside)]
FileName = Annotated[str, AfterValidator(beside)]
