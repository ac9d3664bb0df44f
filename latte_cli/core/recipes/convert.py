"""Convert any published checkpoint, keeping its weights exactly."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from latte_cli.core.checkpoints import save as store
from latte_cli.core.checkpoints.adapters import merged, read_adapters
from latte_cli.core.checkpoints.folders import is_pipeline
from latte_cli.core.checkpoints.layouts.latte import LatteDescription
from latte_cli.core.checkpoints.limits import shown
from latte_cli.core.checkpoints.lora import LoraUse, is_lora, load_lora, lora_files, save_lora, save_peft
from latte_cli.core.checkpoints.mapping import LAYOUTS, Kind, Mapped, map_weights
from latte_cli.core.checkpoints.open import Weights, open_weights
from latte_cli.core.checkpoints.streaming import stored_nbytes
from latte_cli.core.checkpoints.tensors import nbytes
from latte_cli.core.errors import LatteError
from latte_cli.core.models.latte.presets import preset_of
from latte_cli.core.models.pipeline.writer import check_parts, write_pipeline
from latte_cli.core.settings.section import Dtype
from latte_cli.core.storage.digests import digest_of_files
from latte_cli.core.storage.files import atomic_folder, write_file
from latte_cli.core.storage.hub import is_name, name_of, parse_name

Program = Literal["mindspore", "torch"]

PROGRAM = 60_000_000  # bytes of this program itself, measured
WRITING = 1.4e-9  # seconds per byte, until it is on the disk; measured with 2.7 GB

_SUFFIXES: dict[Program, tuple[str, ...]] = {
    "mindspore": store.MINDSPORE_SUFFIXES + store.SAFETENSORS_SUFFIXES,
    "torch": store.TORCH_SUFFIXES + store.SAFETENSORS_SUFFIXES,
}


PIPELINE_PARTS = (
    *("text_encoder", "tokenizer", "vae", "vae_temporal_decoder?", "scheduler?"),
    "transformer/config.json?",
)
"""What is needed of a published pipeline whose other parts are taken."""


def source_parts(kind: str, *, merges: bool) -> tuple[str, ...]:
    """The files of a published pipeline needed to convert weights of a kind, or to merge adapters into it."""
    if merges:
        return ("transformer", *PIPELINE_PARTS)
    return {"vae": ("vae",), "t2v": ("transformer",)}.get(kind, ())


class ConversionCost(NamedTuple):
    """The cost of a conversion, known after all values have been read and checked."""

    memory: int
    """Bytes held at once: the program's, and those of the largest tensor."""
    disk: int
    """Bytes of the tensors in the target."""
    seconds: float
    """How long it takes: reading and checking, which was done and measured, and writing to a usual disk."""


@dataclass(frozen=True)
class ConvertReport:
    """The result of a conversion; `--report` writes it as JSON."""

    kind: Kind | Literal["lora"]
    weights: str
    """The converted set: ema, model, or bare if the file has only one."""
    preset: str | None
    parameters: int
    """Number of converted parameters."""
    taken: list[str]
    """Every converted tensor, by its name in the source."""
    renamed: dict[str, str]
    """Renamed tensors and their names in the target."""
    ignored: dict[str, str]
    """Ignored entries and the reason."""
    source_sha256: str | None
    """SHA-256 of the source (of all its shards, concatenated); only computed for `--report`."""
    source: str
    """Path of the source, or the published name with its commit."""
    target: str
    description: dict[str, object] = field(default_factory=dict)
    """The model's sizes by name."""
    lora: list[str] = field(default_factory=list)
    """The adapters that were merged into the weights, as FILE:STRENGTH."""

    cost: ConversionCost | None = None
    """With `dry_run`, what the conversion would take; not part of the JSON."""


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
    lora: Sequence[LoraUse] = (),
    force: bool = False,
    dry_run: bool = False,
) -> ConvertReport:
    """Convert `source` to `target`, or with `dry_run` only check that this is possible.

    The target contains the source's numbers exactly, unless `dtype` rounds them. The default target is next
    to the source. With `parts`, a folder with the other parts of a text-to-video pipeline, the target is a
    pipeline folder. lora: LoRA weights to merge into the source; a pipeline gives a pipeline. Raises
    LatteError for errors a user can fix, before anything is written.
    """
    if not source.exists():
        raise LatteError(f"{source}: no such file or folder")
    if lora and parts is None and is_pipeline(source):
        kind, parts = "t2v", source
    if parts is None and not is_pipeline(source) and is_lora(found := open_weights(source)):
        target = target or _default_target(source, to)
        result = _convert_lora(found, target, to=to, dtype=dtype, force=force, dry_run=dry_run)
        return _with_report(result, None if dry_run else report)
    if parts is not None:
        kind, target = _pipeline_kind(kind), _pipeline_target(target, force=force)
    else:
        target = target or _default_target(source, to)
        _check_target(source, target, to=to, force=force)
    mapped = map_weights(open_weights(source, weights=weights or "auto", kind=kind), kind)
    if lora:
        lora_files(lora)
        mapped = replace(mapped, tensors=merged(mapped.tensors, read_adapters(lora)))
    if parts is not None:
        check_parts(target, mapped, parts)
    cost = None
    if dry_run:
        cost = _cost(mapped, dtype)
    elif parts is not None:
        write_pipeline(target, mapped, parts, dtype=dtype, force=force)
    else:
        _write(mapped, target, dtype=dtype, to=to)
    result = _report(mapped, target, lora, digest=report is not None)
    return replace(_with_report(result, None if dry_run else report), cost=cost)


def describe(report: ConvertReport) -> str:
    """Describe the model in one line: preset or sizes, condition, frames, and number of parameters."""
    sizes = dict(report.description)
    count = f"{report.parameters:,} parameters"
    if report.kind == "lora":
        return f"low-rank adapters of {sizes['projections']} projections: rank {sizes['rank']}, {count}"
    if report.kind != "latte":
        numbers = ", ".join(f"{name} {value}" for name, value in sizes.items())
        return f"{LAYOUTS[report.kind].title}: {numbers}, {count}"
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


def _default_target(source: Path, to: Program) -> Path:
    """A target next to the source, or in the working directory if the source is in the hub's cache."""
    folder = source.resolve() if source.name in ("", ".", "..") else source
    name = name_of(str(source))
    if is_name(name):
        published = parse_name(name)
        folder = Path(PurePosixPath(published.file or published.repo).name)
    stem = folder.name if source.is_dir() else folder.name.removesuffix(".index.json").rpartition(".")[0]
    return folder.with_name(f"{stem or folder.name}{_SUFFIXES[to][0]}")


def _check_target(source: Path, target: Path, *, to: Program, force: bool) -> None:
    if target.suffix not in _SUFFIXES[to]:
        expected = " or ".join(_SUFFIXES[to])
        raise LatteError(f"{target}: found suffix {target.suffix!r}, expected {expected} with --to {to}")
    if target.exists() and target.samefile(source):
        raise LatteError(f"{target}: is the source itself; give another --target")
    if target.is_dir():
        raise LatteError(f"{target}: is a folder, expected a file")
    if target.exists() and not force:
        raise LatteError(f"{target}: already exists; use --force to replace it")


def _pipeline_kind(kind: str) -> Literal["t2v"]:
    if kind not in ("auto", "t2v"):
        raise LatteError(f"--kind: found {kind}, expected t2v with --pipeline-from")
    return "t2v"


def _pipeline_target(target: Path | None, *, force: bool) -> Path:
    if target is None:
        raise LatteError("--target: not given, expected a folder for the pipeline, such as models/Latte-1")
    if target.exists() and not force:
        raise LatteError(f"{target}: already exists; use --force to replace it")
    return target


def _write(mapped: Mapped, target: Path, *, dtype: str | None, to: Program) -> None:
    # The original's sample.py expects these entries in a .pt file; files for diffusers have none.
    section = "model" if mapped.weights.section == "model" else "ema"
    entry = section if mapped.kind == "latte" and to == "torch" else None
    path = mapped.weights.path
    store.save_weights(target, mapped.tensors, dtype=dtype, finite=True, entry=entry, source=path)


def _cost(mapped: Mapped, dtype: str | None) -> ConversionCost:
    """Read and check all the numbers. Raises LatteError where a conversion would."""
    start, tensors = time.perf_counter(), mapped.tensors.values()
    store.check_numbers(mapped.tensors, mapped.weights.path, dtype=dtype)
    disk = sum(stored_nbytes(tensor, dtype) for tensor in tensors)
    return ConversionCost(
        PROGRAM + max(map(nbytes, tensors)), disk, time.perf_counter() - start + disk * WRITING
    )


def _convert_lora(
    weights: Weights, target: Path, *, to: Program, dtype: str | None, force: bool, dry_run: bool
) -> ConvertReport:
    """Adapters as a folder of peft, or as a file of this program. Raises LatteError like `run`."""
    lora = load_lora(weights.path)
    if to == "torch":
        target = target.with_suffix("") if target.suffix in _SUFFIXES["torch"] else target
    elif target.suffix not in store.SAFETENSORS_SUFFIXES:
        target = target.with_suffix(store.SAFETENSORS_SUFFIXES[0])
    if target.exists() and not force:
        raise LatteError(f"{target}: already exists; use --force to replace it")
    if not dry_run and to == "torch":
        with atomic_folder(target, force=force) as partial:
            save_peft(partial, lora, dtype=dtype)
    elif not dry_run:
        save_lora(target, lora, dtype=dtype)
    ranks = sorted({len(a) for a, _ in lora.factors.values()})
    return ConvertReport(
        kind="lora",
        weights=weights.section,
        preset=None,
        parameters=sum(a.size + b.size for a, b in lora.factors.values()),
        taken=list(weights.names),
        renamed={},
        ignored={},
        source_sha256=digest_of_files(weights.files),
        source=name_of(str(weights.path)),
        target=str(target),
        description={"projections": len(lora.factors), "rank": ", ".join(map(str, ranks))},
    )


def _with_report(result: ConvertReport, path: Path | None) -> ConvertReport:
    """The result, written to a file too where one is given."""
    if path is not None:
        content = asdict(result)
        del content["cost"]
        write_file(path, json.dumps(content, indent=1) + "\n")
    return result


def _report(mapped: Mapped, target: Path, lora: Sequence[LoraUse], *, digest: bool) -> ConvertReport:
    return ConvertReport(
        kind=mapped.kind,
        weights=mapped.weights.section,
        preset=preset_of(LatteDescription(**mapped.sizes)) if mapped.kind == "latte" else None,
        parameters=mapped.parameters(),
        taken=list(mapped.sources.values()),
        renamed={source: name for name, source in mapped.sources.items() if source != name},
        ignored={shown(name): reason for name, reason in mapped.ignored.items()},
        source_sha256=digest_of_files(mapped.weights.files) if digest else None,
        source=name_of(str(mapped.weights.path)),
        target=str(target),
        description=dict(mapped.sizes),
        lora=[f"{name_of(str(use.path))}:{use.strength:g}" for use in lora],
    )
