"""Files of low-rank adapters (LoRA, Hu et al. 2021), with the names of peft and of diffusers."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_serializer

from latte_cli.core.arrays import Array
from latte_cli.core.checkpoints.open import Weights, open_weights
from latte_cli.core.checkpoints.save import save_weights
from latte_cli.core.errors import LatteError, found
from latte_cli.core.storage.files import write_file
from latte_cli.core.storage.hub import name_of
from latte_cli.core.storage.json_files import Model, check_json, parse_json, read_json

PREFIX = "transformer."  # of the names in a file, as diffusers writes them
PEFT_PREFIX, PEFT_WEIGHTS, PEFT_CONFIG = (
    "base_model.model.",
    "adapter_model.safetensors",
    "adapter_config.json",
)
DIFFUSERS_CONFIG = "lora_adapter_metadata"  # in the metadata of a file that diffusers writes
_NAME = re.compile(
    rf"({re.escape(PEFT_PREFIX)})?({re.escape(PREFIX)})?(?P<projection>.+)\."
    r"(lora_(?P<letter>[AB])(\.default)?\.weight|(?P<alpha>alpha))"
)
_STRENGTH = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)


class LoraUse(Model):
    """A file of adapters, and the factor with which they are added."""

    path: Path
    strength: float = 1.0

    @field_serializer("path", when_used="json")
    def _published_by_name(self, path: Path) -> str:
        return name_of(str(path))


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters by the name of the projection they belong to."""

    factors: Mapping[str, tuple[Array, Array]]
    """A (rank, inputs) and B (outputs, rank)."""
    alphas: Mapping[str, float]
    """What B A is scaled by, times the rank."""

    def change(self, projection: str) -> NDArray[np.float64]:
        """The change of a projection's weight at strength 1: (outputs, inputs)."""
        a, b = self.factors[projection]
        return (self.alphas[projection] / len(a)) * (b.astype(np.float64) @ a.astype(np.float64))


def parse_use(text: str) -> LoraUse:
    """`FILE[:STRENGTH]`: a number after the last colon is the strength. Raises ValueError without a file."""
    path, colon, strength = text.rpartition(":")
    if not colon or not _STRENGTH.fullmatch(strength):
        path, strength = text, "1"
    if not path or not math.isfinite(float(strength)):
        raise ValueError(f"{text}: expected FILE[:STRENGTH]")
    return LoraUse(path=Path(path), strength=float(strength))


def lora_files(uses: Sequence[LoraUse]) -> list[Path]:
    """The files of adapters. Raises LatteError naming --lora if one is missing."""
    files = []
    for use in uses:
        if not use.path.exists():
            raise LatteError(f"--lora: {use.path}: no such file")
        weights = open_weights(use.path)
        files += [*weights.files, *_config_next_to(weights)]
    return files


def is_lora(weights: Weights) -> bool:
    """Whether a file's names are those of low-rank adapters."""
    return any(".lora_A." in name for name in weights.names)


def load_lora(path: Path) -> Lora:
    """Read a file of low-rank adapters, or peft's folder. Raises LatteError if it contains anything else.

    The scale is that of the file's `.alpha` entries, else of the configuration that peft writes next to it or
    diffusers into it, else of the `alpha` in its metadata, else the rank, as in peft.
    """
    weights = open_weights(path)
    halves: dict[str, dict[str, Array]] = {}
    alphas: dict[str, float] = {}
    for name in weights.names:
        match = _NAME.fullmatch(name)
        if match is None:
            wanted = "LoRA weights: names that end with lora_A.weight"
            raise LatteError(f"{weights.path}: found {name}, expected {wanted}")
        if match["alpha"]:
            alphas[match["projection"]] = _number(weights, name)
        else:
            values = weights.read(name).astype(np.float32)
            halves.setdefault(match["projection"], {})[match["letter"]] = values
    factors = {}
    for name, pair in halves.items():
        shapes = [factor.shape for _, factor in sorted(pair.items())]
        if [len(shape) for shape in shapes] != [2, 2] or shapes[0][0] != shapes[1][1]:
            wanted = "expected lora_A (rank, inputs) with lora_B (outputs, rank)"
            raise LatteError(f"{weights.path}: {name}: {wanted}")
        factors[name] = pair["A"], pair["B"]
    if odd := alphas.keys() - factors.keys():
        raise LatteError(f"{weights.path}: found {min(odd)}.alpha, but no low-rank adapter of that name")
    config = _config_of(weights)
    for name, (a, _) in factors.items():
        if name not in alphas:
            alphas[name] = config.alpha(name, len(a))
    return Lora(factors, alphas)


def save_lora(target: Path, lora: Lora, *, dtype: str | None = None) -> None:
    """Write a .safetensors file with diffusers' names, which `latte sample --lora` reads."""
    ranks, alphas = {len(a) for a, _ in lora.factors.values()}, set(lora.alphas.values())
    if len(ranks) == len(alphas) == 1:
        metadata = {"rank": str(ranks.pop()), "alpha": repr(alphas.pop())}
        save_weights(target, dict(_named(lora, PREFIX)), metadata=metadata, dtype=dtype)
        return
    scales = {f"{PREFIX}{name}.alpha": np.array(alpha, np.float32) for name, alpha in lora.alphas.items()}
    save_weights(target, dict(_named(lora, PREFIX)) | scales, dtype=dtype)


def save_peft(folder: Path, lora: Lora, *, dtype: str | None = None) -> None:
    """Write the two files of an adapter that `peft.PeftModel.from_pretrained` reads, into a folder."""
    ranks = {name: len(a) for name, (a, _) in lora.factors.items()}
    rank, alpha = next(iter(ranks.values())), next(iter(lora.alphas.values()))
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted(ranks),
        "rank_pattern": {name: own for name, own in ranks.items() if own != rank},
        "alpha_pattern": {name: own for name, own in lora.alphas.items() if own != alpha},
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    save_weights(folder / PEFT_WEIGHTS, dict(_named(lora, PEFT_PREFIX)), dtype=dtype)
    write_file(folder / PEFT_CONFIG, json.dumps(config, indent=2) + "\n")


class _Config(Model):
    """The fields of peft's configuration that affect the result; others must have their usual values."""

    peft_type: Literal["LORA"] = "LORA"
    lora_alpha: float | None = None
    alpha_pattern: dict[str, float] = Field(default_factory=dict)
    use_rslora: bool = False
    use_dora: Literal[False] = False
    fan_in_fan_out: Literal[False] = False
    bias: Literal["none"] = "none"
    layer_replication: None = None

    def alpha(self, projection: str, rank: int) -> float:
        """The scale of a projection's B A, times the rank."""
        own = (alpha for name, alpha in self.alpha_pattern.items() if _ends(projection, name.lstrip("^")))
        alpha = next(own, self.lora_alpha)
        if alpha is None:
            return float(rank)
        return alpha * math.sqrt(rank) if self.use_rslora else alpha


def _config_of(weights: Weights) -> _Config:
    """The configuration of a file of adapters. Raises LatteError if it is not supported."""
    for path in _config_next_to(weights):
        return read_json(path, _Config)
    if DIFFUSERS_CONFIG in weights.metadata:
        source = f"{weights.path}: {DIFFUSERS_CONFIG}"
        content = parse_json(weights.metadata[DIFFUSERS_CONFIG].encode(), dict[str, object], source=source)
        bare = {name.removeprefix(PREFIX): value for name, value in content.items()}
        return check_json(bare, _Config, source=source)
    if "alpha" in weights.metadata:
        return _Config(lora_alpha=_finite(weights.metadata["alpha"], f"{weights.path}: alpha"))
    return _Config()


def _config_next_to(weights: Weights) -> list[Path]:
    """The configuration that peft writes next to its adapters, if it exists."""
    path = weights.path.with_name(PEFT_CONFIG)
    return [path] if weights.path.name == PEFT_WEIGHTS and path.is_file() else []


def _ends(projection: str, name: str) -> bool:
    """Whether a module's name ends in another, as peft matches those of its patterns that are plain names."""
    return projection == name or projection.endswith(f".{name}")


def _named(lora: Lora, prefix: str) -> Iterator[tuple[str, Array]]:
    for name, (a, b) in lora.factors.items():
        yield f"{prefix}{name}.lora_A.weight", a
        yield f"{prefix}{name}.lora_B.weight", b


def _number(weights: Weights, name: str) -> float:
    """The one finite number in a tensor."""
    values = weights.read(name).reshape(-1)
    return _finite(
        str(values[0]) if len(values) == 1 else f"{len(values)} numbers", f"{weights.path}: {name}"
    )


def _finite(text: str, source: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise LatteError(f"{source}: {found(text, 'a number')}")
    return number
