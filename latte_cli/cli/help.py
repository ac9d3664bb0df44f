"""Commands with help pages in plain text with 80 columns: options in groups, and examples at the end."""

from collections.abc import Iterator
from typing import Any

import typer

from latte_cli.core.errors import LatteError, found, is_unicode

GROUPS = ("Data", "Model", "Sampling", "Run", "Parallel", "Output", "Experiment")
"""The headings of option groups, in order; the last is for all other options."""


class Command(typer.core.TyperCommand):
    """A command whose help groups options by `rich_help_panel` and ends with its epilog, unchanged.

    Its arguments have to be UTF-8: checkpoints, sidecars and reports contain names of files as JSON.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises LatteError for an argument that is not UTF-8."""
        for parameter in self.get_params(ctx):
            for text in _texts(ctx.params.get(parameter.name)):
                if not is_unicode(text):
                    raise LatteError(f"{parameter.opts[0]}: {found(text, 'valid UTF-8')}")
        return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section per group that has options."""
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in GROUPS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections[getattr(parameter, "rich_help_panel", None) or GROUPS[-1]].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples without reflowing them."""
        if self.epilog:
            formatter.write_paragraph()
            formatter.write(self.epilog.strip("\n") + "\n")


def _texts(value: Any) -> Iterator[str]:
    """A parameter's value, or each of its values, as text."""
    for one in value if isinstance(value, list | tuple) else [value]:
        yield str(getattr(one, "path", one))


def examples(*lines: tuple[str, str]) -> str:
    """The epilog with example commands, given as (description, command)."""
    return "Examples:\n" + "\n".join(f"  # {text}\n  {command}" for text, command in lines)
