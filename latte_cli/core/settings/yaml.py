"""Read and write YAML with the 1.2 core schema (1e-4 is a number, yes is text), rejecting duplicate keys."""

import re
from typing import Any

import yaml

from latte_cli.core.errors import LatteError

# YAML 1.2.2, chapter 10.3.2 (core schema), with the possible first characters for PyYAML's look-up.
_RESOLVERS = [
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
]


DEEPEST = 16  # levels of nesting; settings have three


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  (PyYAML's own form)
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose the next value. Raises MarkedYAMLError if it is nested deeper than any setting."""
        self.depth += 1
        if self.depth > DEEPEST:
            problem = f"nested more than {DEEPEST} levels deep"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.get_mark())
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = str(loader.construct_object(key_node, deep=True))
        if key in mapping:
            raise yaml.MarkedYAMLError(problem=f'duplicate key "{key}"', problem_mark=key_node.start_mark)
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


def _decimal(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))  # PyYAML would read 010 as eight


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_repeats)
_Loader.add_constructor("tag:yaml.org,2002:int", _decimal)
for _kind, _pattern, _starts in _RESOLVERS:
    for _yaml in (_Loader, _Dumper):
        _yaml.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern})$"), _starts)


def parse_yaml(text: str, source: str) -> Any:
    """Parse a YAML text.

    Raises LatteError naming `source` and the line if it is not valid YAML or has a duplicate key.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}, line {mark.line + 1}" if mark is not None else source
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
        raise LatteError(f"{place}: not valid YAML: {problem}") from error


def scalar_yaml(value: object) -> str:
    """Format a value, or a list of values, as one line of YAML."""
    # By default PyYAML writes some control characters in a way that reads back as spaces.
    style = '"' if isinstance(value, str) and not value.isprintable() else None
    text = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=True,
        default_style=style,
        width=10**9,
        allow_unicode=not style,
    )
    return text.removesuffix("\n").removesuffix("\n...")
