"""`latte convert`: any published checkpoint in, exactly its weights out."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from latte_cli.core.checkpoints import save as store
from latte_cli.core.checkpoints.limits import shown
from latte_cli.core.checkpoints.mapping import KINDS, Kind, Mapped, map_weights
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.errors import LatteError
from latte_cli.core.models.latte.presets import preset_of
from latte_cli.core.models.pipeline.writer import check_parts, write_pipeline
from latte_cli.core.settings.schema import Dtype
from latte_cli.core.storage.digests import digest_of_files
from latte_cli.core.storage.files import write_file

Program = Literal["mindspore", "torch"]

_SUFFIXES: dict[Program, tuple[str, ...]] = {
    "mindspore": store.MINDSPORE_SUFFIXES + store.SAFETENSORS_SUFFIXES,
    "torch": store.TORCH_SUFFIXES + store.SAFETENSORS_SUFFIXES,
}


@dataclass(frozen=True)
class ConvertReport:
    """What a conversion found and wrote; `--report` writes it as JSON."""

    kind: Kind
    weights: str
    """The set taken: ema, model, or bare when the file holds only one."""
    preset: str | None
    parameters: int
    """Numbers in all the tensors taken."""
    taken: list[str]
    """Every tensor taken, by its name in the source."""
    renamed: dict[str, str]
    """Those of them whose name in the target differs -> that name."""
    ignored: dict[str, str]
    """What was left -> the reason."""
    source_sha256: str | None
    """Of the source (of its parts, one after the other, when there are several); only reckoned for
    `--report`."""
    target: str
    description: dict[str, object] = field(default_factory=dict)
    """The model's sizes by name."""


def run(
    source: Path,
    target: Path | None = None,
    *,
    kind: Kind | Literal["auto"] = "auto",
    weights: Literal["auto", "ema", "model"] | None = None,
    dtype: Dtype | None = None,
    to: Program = "mindspore",
    report: Path | None = None,
    parts: Path | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> ConvertReport:
    """Convert `source` to `target`, or with `dry_run` only check that it can be done.

    The target holds the source's numbers exactly, in their own type unless `dtype` rounds them. Without a
    target it is put beside the source. With `parts`, a folder of what else a text-to-video pipeline is made
    of, the target is a pipeline folder. Raises LatteError, before anything is written, for whatever a user
    can put right.
    """
    if not source.exists():
        raise LatteError(f"{source}: no such file or folder")
    if parts is not None:
        kind, target = _pipeline_kind(kind), _pipeline_target(target, force=force)
    else:
        target = target or _beside(source, to)
        _check_target(source, target, to=to, force=force)
    mapped = map_weights(open_weights(source, weights=weights or "auto", kind=kind), kind)
    if parts is not None:
        check_parts(target, mapped, parts)
    if dry_run:
        store.check_numbers(mapped.tensors, mapped.weights.path, dtype=dtype)
    elif parts is not None:
        write_pipeline(target, mapped, parts, dtype=dtype, force=force)
    else:
        _write(mapped, target, dtype=dtype, to=to)
    result = _report(mapped, target, digest=report is not None)
    if report is not None and not dry_run:
        write_file(report, json.dumps(asdict(result), indent=1) + "\n")
    return result


def describe(report: ConvertReport) -> str:
    """The model in one sentence: preset or sizes, condition, frames, and how many numbers it has."""
    sizes = dict(report.description)
    count = f"{report.parameters:,} parameters"
    if report.kind != "latte":
        numbers = ", ".join(f"{name} {value}" for name, value in sizes.items())
        return f"{KINDS[report.kind][0]}: {numbers}, {count}"
    condition = {
        "none": "unconditional",
        "class": f"{sizes['num_classes']} classes",
        "text": "text-conditioned",
    }
    words = [
        condition[str(sizes["condition"])],
        f"{sizes['num_frames']} frames of {sizes['image_size']} x {sizes['image_size']} pixels",
        "learned variance" if sizes["learn_sigma"] else "fixed variance",
        count,
    ]
    size = f"Latte of width {sizes['hidden_size']}, depth {sizes['depth']}, patch {sizes['patch_size']}"
    return f"{report.preset or size}: {', '.join(words)}"


def _beside(source: Path, to: Program) -> Path:
    folder = source.resolve() if source.name in ("", ".", "..") else source
    stem = folder.name if folder.is_dir() else folder.name.removesuffix(".index.json").rpartition(".")[0]
    return folder.with_name(f"{stem or folder.name}{_SUFFIXES[to][0]}")


def _check_target(source: Path, target: Path, *, to: Program, force: bool) -> None:
    if target.suffix not in _SUFFIXES[to]:
        expected = " or ".join(_SUFFIXES[to])
        raise LatteError(f"{target}: found suffix {target.suffix!r}, expected {expected} with --to {to}")
    if target.exists() and target.samefile(source):
        raise LatteError(f"{target}: is the source itself; name another file with --target")
    if target.is_dir():
        raise LatteError(f"{target}: is a folder, expected a file")
    if target.exists() and not force:
        raise LatteError(f"{target}: exists already; --force replaces it")


def _pipeline_kind(kind: str) -> Literal["t2v"]:
    if kind not in ("auto", "t2v"):
        raise LatteError(f"--kind: found {kind}, expected t2v with --pipeline-from")
    return "t2v"


def _pipeline_target(target: Path | None, *, force: bool) -> Path:
    if target is None:
        raise LatteError("--target: not given, expected a folder for the pipeline, such as models/Latte-1")
    if target.exists() and not force:
        raise LatteError(f"{target}: exists already; --force replaces it")
    return target


def _write(mapped: Mapped, target: Path, *, dtype: str | None, to: Program) -> None:
    # The original's sample.py looks for these entries in a .pt file; what diffusers loads has none.
    section = "model" if mapped.weights.section == "model" else "ema"
    entry = section if mapped.kind == "latte" and to == "torch" else None
    path = mapped.weights.path
    store.save_weights(target, mapped.tensors, dtype=dtype, finite=True, entry=entry, source=path)


def _report(mapped: Mapped, target: Path, *, digest: bool) -> ConvertReport:
    return ConvertReport(
        kind=mapped.kind,
        weights=mapped.weights.section,
        preset=preset_of(mapped.latte) if mapped.latte else None,
        parameters=mapped.parameters(),
        taken=list(mapped.sources.values()),
        renamed={source: name for name, source in mapped.sources.items() if source != name},
        ignored={shown(name): reason for name, reason in mapped.ignored.items()},
        source_sha256=digest_of_files(mapped.weights.files) if digest else None,
        target=str(target),
        description=asdict(mapped.latte) if mapped.latte else dict(mapped.sizes),
    )
