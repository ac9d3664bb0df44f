"""The plan of a command: its work and the problems that prevent it. Does not import MindSpore."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from latte_cli.core.errors import LatteError
from latte_cli.core.storage.hub import is_name

PROMPTS_SHOWN = 3
SCAN_SECONDS = 0.5  # time limit for opening videos; the others are only listed


@dataclass
class Plan:
    """Rows that describe the work, and the problems that must be fixed first, one line each."""

    entries: list[tuple[str, str | Callable[[], str]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """Each row's name and text."""
        return [(name, text if isinstance(text, str) else text()) for name, text in self.entries]

    def add(self, name: str, text: str | Callable[[], str]) -> None:
        """Add a row. A function is called only if the plan is shown, for text that takes time to compute."""
        self.entries.append((name, text))

    def check(self, test: Callable[[], None]) -> None:
        """Run a test; a LatteError becomes a problem."""
        try:
            test()
        except LatteError as error:
            self.problems.append(str(error))

    def require(self, name: str, path: Path | str | None) -> None:
        """Require that the file or folder of a setting exists, if set; published names are checked later."""
        if path is not None and not is_name(path) and not Path(path).exists():
            self.problems.append(f"{name}: {path}: no such file or folder")

    def demand(self) -> None:
        """Raise LatteError with all problems, if any."""
        if len(self.problems) == 1:
            raise LatteError(self.problems[0])
        if self.problems:
            heading = f"{len(self.problems)} problems"
            raise LatteError(heading, *self.problems)
