"""Names of files that other files give: they stay inside the folder that they are looked up in."""

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated

from pydantic import AfterValidator

LONGEST = 255  # bytes of a name, as file systems bound it


def relative(name: str) -> str:
    """The name of something below a folder, unchanged, whatever letters it has.

    Raises ValueError when it leads out of the folder (an absolute path, a drive, `..`), is the folder itself,
    or has a NUL.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise ValueError("expected a path inside the folder")
    return name


def inside(name: str) -> str:
    """A relative path to a file that this program wrote, unchanged.

    Raises ValueError as `relative` does, on any system, and for what is no printable name of a file.
    """
    relative(name)
    if "\\" in name or PureWindowsPath(name).drive:
        raise ValueError("expected a path inside the folder")
    if not name.isprintable() or any(len(part.encode()) > LONGEST for part in PurePosixPath(name).parts):
        raise ValueError("expected a name that a file can have")
    return name


def beside(name: str) -> str:
    """The name of a file in a folder, not in one below it; unchanged. Raises ValueError as `inside` does."""
    if "/" in inside(name):
        raise ValueError("expected the name of a file beside it")
    return name


def resolves_inside(folder: Path, name: str) -> bool:
    """Whether a file, its links followed, is in a folder: asked before one is changed or removed."""
    return (folder / inside(name)).resolve().is_relative_to(folder.resolve())


RelativeName = Annotated[str, AfterValidator(relative)]
InsidePath = Annotated[str, AfterValidator(inside)]
FileName = Annotated[str, AfterValidator(beside)]
