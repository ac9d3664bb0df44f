"""Choose one of the sets of weights in a file, and strip the prefixes of wrappers from its names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar, cast

from latte_cli.core.checkpoints.formats.torch_names import TensorClaim
from latte_cli.core.checkpoints.limits import MAX_TENSORS, RefusedError, several, shown
from latte_cli.core.checkpoints.tensors import Tensor

Choice = Literal["auto", "ema", "model"]
Section = Literal["ema", "model", "bare"]

# Names that training scripts use for the averaged and the trained weights, in order of preference.
_ENTRIES: dict[Section, tuple[str, ...]] = {
    "ema": ("ema", "ema_state_dict", "model_ema"),
    "model": ("model", "state_dict", "model_state_dict", "module"),
}
TRAINING_SECTIONS = ("model", "ema", "optimizer")
"""Sections of this program's training checkpoints; a name is a section, a slash and a parameter's name."""
# DistributedDataParallel, torch.compile, MindONE's training wrapper.
_PREFIXES = re.compile(r"(?:module\.|_orig_mod\.|network\.)+")
# MindONE's EMA cell stores copies under these: the averages, and a buffer for swapping.
_MINDONE_COPIES = {"ema.": "ema", "swap.": "swap"}


Item = TypeVar("Item")


@dataclass(frozen=True)
class Chosen(Generic[Item]):
    """One set of weights: its items by the names in the file, and ignored entries with the reason."""

    section: Section
    items: Mapping[str, Item]
    ignored: dict[str, str] = field(default_factory=dict)


def choose_entry(content: object, requested: Choice) -> Chosen[TensorClaim]:
    """Choose the weights in a PyTorch pickle: an entry of a dictionary, or the dictionary itself.

    Raises RefusedError if the requested set does not exist.
    """
    if not isinstance(content, dict) or len(content) > MAX_TENSORS:
        raise RefusedError(f"contains {_kind(content)}, expected a dictionary of tensors")
    sets = {
        section: next((name for name in names if _is_set(content.get(name))), None)
        for section, names in _ENTRIES.items()
    }
    known = [name for names in _ENTRIES.values() for name in names if _is_entry(content.get(name, 0))]
    if not known:
        _need("model", requested)
        return Chosen("bare", _named(content))
    section = _pick([section for section, name in sets.items() if name], requested)
    entry = cast(str, sets[section])
    ignored = {shown(name): _reason(name, value) for name, value in content.items() if name != entry}
    return Chosen(section, _named(content[entry]), ignored)


def choose_flat(tensors: Mapping[str, Tensor], requested: Choice, *, mindspore: bool) -> Chosen[Tensor]:
    """Choose the weights among flat names: a section of ours ("ema/..."), of MindONE's EMA cell, or all.

    Raises RefusedError if the requested set does not exist.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, short = _flat_part(name, mindspore=mindspore)
        parts.setdefault(part, {})[short] = tensor
    if "ema" not in parts and parts.keys() <= {"", "swap"}:
        _need("model", requested)
        return Chosen("bare", parts.get("", {}), _ignored(parts, ""))
    if "" in parts and "model" not in parts:
        parts["model"] = parts.pop("")
    section = _pick([name for name in ("ema", "model") if name in parts], requested)
    return Chosen(section, parts[section], _ignored(parts, section))


def strip_prefixes(names: list[str]) -> dict[str, str]:
    """Map each name without the prefixes of wrappers to the name in the file.

    Raises RefusedError if two names become equal.
    """
    originals: dict[str, str] = {}
    for name in names:
        match = _PREFIXES.match(name)
        short = name[match.end() :] if match else name
        if short in originals:
            raise RefusedError(
                f"contains both {shown(originals[short])} and {shown(name)}, which are the same parameter"
            )
        originals[short] = name
    return originals


def _pick(there: list[str], requested: Choice) -> Section:
    if not there:
        raise RefusedError("contains no weights: its entries are empty")
    if requested != "auto" and requested not in there:
        raise RefusedError(f"contains no {requested} weights, only {' and '.join(there)}")
    return cast(Section, requested if requested != "auto" else there[0])


def _need(there: str, requested: Choice) -> None:
    if requested not in ("auto", there):
        raise RefusedError(f"contains only one set of weights, not marked as {requested}; omit --weights")


def _is_set(value: object) -> bool:
    return isinstance(value, dict) and bool(value)


def _is_entry(value: object) -> bool:
    return isinstance(value, dict) or value is None


def _reason(name: object, value: object) -> str:
    section = next((section for section, names in _ENTRIES.items() if name in names), None)
    if section is None:
        return "not weights of the model"
    return f"another set of weights, for --weights {section}" if _is_set(value) else "empty"


def _named(entry: dict[object, object]) -> dict[str, TensorClaim]:
    """The entry's items. Raises RefusedError if a name is not text or a value is not a tensor."""
    if not entry:
        raise RefusedError("contains no tensors: the dictionary is empty")
    numbered = [key for key in entry if not isinstance(key, str)]
    if numbered:
        raise RefusedError(f"contains a name that is {_kind(numbered[0])}, expected text")
    others = [str(key) for key, value in entry.items() if not isinstance(value, TensorClaim)]
    if others:
        raise RefusedError(f"{several(others)}: found {_kind(entry[others[0]])}, expected a tensor")
    return cast(dict[str, TensorClaim], entry)


def _kind(value: object) -> str:
    if isinstance(value, TensorClaim):
        return "a single tensor"
    names = {
        str: "text",
        bytes: "bytes",
        int: "an integer",
        float: "a number",
        list: "a list",
        tuple: "a tuple",
    }
    return names.get(
        type(value), {dict: "a dictionary", type(None): "nothing"}.get(type(value), "another object")
    )


def _flat_part(name: str, *, mindspore: bool) -> tuple[str, str]:
    part, slash, short = name.partition("/")
    if slash and part in TRAINING_SECTIONS:
        return part, short
    for prefix, copy in _MINDONE_COPIES.items() if mindspore else ():
        if name.startswith(prefix):
            return copy, name[len(prefix) :]
    return "", name


def _ignored(parts: Mapping[str, Mapping[str, object]], section: str) -> dict[str, str]:
    """The ignored parts of a file with several parts, with the reason."""
    return {
        f"{part or 'others'} ({len(items)})": _reason(part, items)
        for part, items in parts.items()
        if part != section
    }
