"""Settings from YAML, `--set a.b=v` and defaults, and back to YAML."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from pydantic import ValidationError

from latte_cli.core.errors import LatteError
from latte_cli.core.experiment.rules import Command, broken_rules
from latte_cli.core.settings.messages import Fault, faults_of, section_of
from latte_cli.core.settings.schema import REMOVED, Settings
from latte_cli.core.settings.section import Section
from latte_cli.core.settings.shipped import shipped_experiment, shipped_names
from latte_cli.core.settings.yaml import parse_yaml, scalar_yaml

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 18  # of an experiment file; the shipped ones have 5,000
LOCAL_CONFIG = Path("latte.yaml")
Override = tuple[str, Any]


def load_settings(
    config: Path | None = None,
    overrides: Sequence[Override] = (),
    *,
    command: Command | None = None,
    demo: bool = True,
) -> Settings:
    """Load the experiment `config`, else ./latte.yaml, else the built-in `demo`, with overrides in order.

    config: a file, or the name of a shipped experiment.
    If not `demo`, the defaults are used instead of the built-in demo. `command` adds the rules of a command.
    Paths are relative to the working directory. Raises LatteError with all faults: a single one on one line,
    several with one per line below a heading.
    """
    source, text = _read(config, demo=demo)
    values = parse_yaml(text, source)
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise LatteError(f"{source}: found no sections, expected keys and values such as `seed: 1`")
    for path, value in overrides:
        _put(values, path.split("."), value)
    for name, reason in REMOVED.items():
        section, _, key = name.partition(".")
        if isinstance(values.get(section), dict) and key in values[section]:
            log.warning("%s: %s: ignored: %s", source, name, reason)
    settings, faults = _check(values, command)
    if faults:
        raise _report(source, faults, [path for path, _ in overrides])
    return settings


def parse_override(argument: str) -> Override:
    """Parse `a.b=v` into a path and a YAML value. Raises LatteError if it has no `=` or no key."""
    path, equals, value = argument.partition("=")
    path = path.strip()
    if not equals or not all(path.split(".")):
        raise LatteError(f"--set {argument}: expected KEY.PATH=VALUE, such as train.steps=100")
    return path, parse_yaml(value, f"--set {argument}")


def dump_settings(settings: Settings, *, explained: bool = True) -> str:
    """The settings as YAML that loads back equal; `explained`: with each key's docstring as a comment."""
    lines = _dump_section(settings, "")
    return "\n".join(line for line in lines if explained or line.strip()[:1] not in ("", "#")) + "\n"


def _read(config: Path | None, *, demo: bool) -> tuple[str, str]:
    """The name and text of the experiment file."""
    if config is None and not LOCAL_CONFIG.exists():
        if not demo:
            return "the defaults", ""
        return "the built-in demo", shipped_experiment("demo").text
    path = LOCAL_CONFIG if config is None else config
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise LatteError(
                f"{path}: found more than {MAX_BYTES:,} bytes, expected an experiment file (YAML)"
            )
        return str(path), content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LatteError(f"{path}: not UTF-8 text, expected an experiment file (YAML)") from error
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        if (is_missing or isinstance(error, IsADirectoryError)) and str(path) in shipped_names():
            return str(path), shipped_experiment(str(path)).text
        if not is_missing:
            raise LatteError(f"{path}: cannot be read: {error.strerror}") from error
        shipped = f", or -c {path.stem} for the shipped one" if path.stem in shipped_names() else ""
        raise LatteError(f"{path}: no such file, expected an experiment file (YAML){shipped}") from error


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a nested value, creating sections as needed."""
    for name in path[:-1]:
        if not isinstance(values.get(name), dict):
            values[name] = {}
        values = values[name]
    values[path[-1]] = value


def _check(values: dict[str, Any], command: Command | None) -> tuple[Settings, list[Fault]]:
    """The settings and all faults: of single values, then of combinations of the valid ones."""
    values = _without_empty_sections(values)
    faults: list[Fault] = []
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        faults = list(faults_of(error))
        for fault in faults:
            _remove(values, fault.path.split("."))
        settings = Settings.model_validate(values)
    known = [fault.path for fault in faults]
    for fault in broken_rules(settings, command):
        if not any(_within(path, bad) for path in (fault.path, *fault.judged_by) for bad in known):
            faults.append(fault)
    return settings, faults


def _within(path: str, section: str) -> bool:
    return path == section or path.startswith(f"{section}.") or section.startswith(f"{path}.")


def _without_empty_sections(values: dict[str, Any]) -> dict[str, Any]:
    """A copy in which empty sections have their defaults instead of null."""
    sections = {name for name, field in Settings.model_fields.items() if section_of(field) is not None}
    kept = {name: value for name, value in values.items() if value is not None or name not in sections}
    return {name: dict(value) if isinstance(value, dict) else value for name, value in kept.items()}


def _remove(values: dict[str, Any], path: list[str]) -> None:
    for name in path[:-1]:
        values = values[name]
    del values[path[-1]]


def _report(source: str, faults: list[Fault], overridden: Iterable[str]) -> LatteError:
    """One fault on one line, several with one per line below a heading; does not name the file for flags."""
    overridden = list(overridden)
    if len(faults) == 1:
        from_flags = any(_within(faults[0].path, path) for path in overridden)
        return LatteError(str(faults[0]) if from_flags else f"{source}: {faults[0]}")
    return LatteError(f"{source}: {len(faults)} faults", *map(str, faults))


def _dump_section(section: Section, indent: str) -> list[str]:
    lines = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        lines += [f"{indent}# {line}" for line in wrap(field.description or "", 100)]
        if isinstance(value, Section):
            lines += [f"{indent}{name}:", *_dump_section(value, f"{indent}  "), ""]
        else:
            plain = section.model_dump(mode="json", include={name})[name]
            lines.append(f"{indent}{name}: {scalar_yaml(plain)}")
    return lines
