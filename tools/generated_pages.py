"""Write the tables of documentation pages that follow from the code.

Run `python -m tools.generated_pages` after a change of the settings or of the plan's estimates.
"""

from collections.abc import Callable
from pathlib import Path

from pydantic.fields import FieldInfo

from latte_cli.core.models.architectures import sizes_of
from latte_cli.core.planning.cost import step_flops, training_memory
from latte_cli.core.planning.units import bytes_of, short
from latte_cli.core.settings.messages import expected_of, section_of
from latte_cli.core.settings.schema import Settings
from latte_cli.core.settings.section import Section
from latte_cli.core.settings.yaml import scalar_yaml

DOCS = Path(__file__).parents[1] / "docs"
BEGIN = "<!-- Begin of what is written by: python -m tools.generated_pages -->"
END = "<!-- End of it -->"
SIZES = ("S/2", "B/2", "L/2", "XL/2")
CLIPS = ((16, 1), (16, 5), (128, 1))  # frames, batch


def settings_tables() -> str:
    """The settings outside of sections, then a table for each section, as Markdown."""
    fields = Settings.model_fields
    parts = [_table("", {name: field for name, field in fields.items() if section_of(field) is None})]
    for name, field in fields.items():
        if (section := section_of(field)) is not None:
            parts.append(_section(name, section))
    return "\n".join(parts)


def memory_table() -> str:
    """Memory and operations of a training step by size and batch, as the plan estimates them."""
    head = "| preset | parameters | frames | batch | memory | recompute | TFLOP |\n"
    rows = [_memory_row(size, frames, batch) for size in SIZES for frames, batch in CLIPS]
    return head + "| --- " * 7 + "|\n" + "\n".join(rows) + "\n"


PARTS: dict[str, Callable[[], str]] = {"settings.md": settings_tables, "memory.md": memory_table}


def page(name: str) -> str:
    """A page as it should be: its part between the marks is written again, the rest is kept.

    Raises ValueError if the marks are missing.
    """
    current = (DOCS / name).read_text("utf-8")
    above, begin, rest = current.partition(BEGIN)
    _, end, below = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{name}: expected the lines {BEGIN} and {END}")
    return f"{above}{BEGIN}\n\n{PARTS[name]()}\n{END}{below}"


def _section(name: str, section: type[Section]) -> str:
    about = " ".join((section.__doc__ or "").split())
    return f"## {name}\n\n{about}\n\n{_table(f'{name}.', dict(section.model_fields))}"


def _table(prefix: str, fields: dict[str, FieldInfo]) -> str:
    rows = [
        f"| `{prefix}{name}` | {_default(field)} | {_cell(expected_of(field))} | {_cell(field.description)} |"
        for name, field in fields.items()
    ]
    return "| setting | default | values | meaning |\n" + "| --- " * 4 + "|\n" + "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return f"`{scalar_yaml(str(value) if isinstance(value, Path) else value)}`"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")


def _memory_row(size: str, frames: int, batch: int) -> str:
    plain, less = (
        Settings.model_validate(
            {
                "data": {"num_frames": frames, "frame_stride": 1},
                "model": {"preset": f"Latte-{size}"},
                "train": {"batch_size": batch, "recompute": recompute},
            }
        )
        for recompute in (False, True)
    )
    shape = sizes_of(plain)
    memory = [bytes_of(training_memory(shape, settings.train).total) for settings in (plain, less)]
    cells = [f"Latte-{size}", f"{shape.parameters() / 1e6:.0f} M", str(frames), str(batch), *memory]
    return "| " + " | ".join([*cells, short(step_flops(shape, plain.train) / 1e12)]) + " |"


if __name__ == "__main__":
    for name in PARTS:
        (DOCS / name).write_text(page(name), "utf-8")
