"""Open any weights file: detect the format from its content and list its tensors, read on demand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from latte_cli.core.checkpoints import folders
from latte_cli.core.checkpoints.dtypes import Bits, widen
from latte_cli.core.checkpoints.formats import mindspore, safetensors, torch, zip_directory
from latte_cli.core.checkpoints.limits import RefusedError, shown
from latte_cli.core.checkpoints.sections import (
    Choice,
    Chosen,
    Section,
    choose_entry,
    choose_flat,
    strip_prefixes,
)
from latte_cli.core.checkpoints.tensors import Shape, Tensor, map_file
from latte_cli.core.errors import LatteError

# Other files that users may pass, by their first bytes.
_STRANGERS = {
    b"version https://git-lfs": "is a Git LFS pointer, not weights: download them with `git lfs pull`",
    b"<": "is a web page or XML, not weights: the download failed",
    b"{": "is JSON, not weights",
    b"\x1f\x8b": "is gzip: unpack it first",
    b"BZh": "is bzip2: unpack it first",
    b"\xfd7zXZ": "is xz: unpack it first",
    b"Rar!": "is a RAR archive: unpack it first",
    b"GGUF": "is a GGUF file, expected PyTorch, safetensors or MindSpore",
    b"\x89HDF": "is HDF5, expected PyTorch, safetensors or MindSpore",
    b"\x93NUMPY": "is a NumPy array, expected PyTorch, safetensors or MindSpore",
    b"\x80": "is a plain pickle, not a PyTorch file; for security, pickles are never executed",
}
_TAR_MARK, _TAR_AT = b"ustar", 257


@dataclass(frozen=True)
class Weights:
    """Tensors by name, without the prefixes of wrappers, read on demand."""

    path: Path
    format: str
    """torch, safetensors or mindspore."""
    section: Section
    """The set of weights of a training checkpoint: ema or model; bare if the file has only one."""
    tensors: Mapping[str, Tensor]
    originals: Mapping[str, str]
    """Each tensor's name in the file."""
    ignored: Mapping[str, str]
    """Ignored entries of the file, and the reason."""
    files: tuple[Path, ...]
    """The weights file, or an index and its shards."""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.tensors)

    def shape(self, name: str) -> Shape:
        return self.tensors[name].shape

    def dtype(self, name: str) -> str:
        """float32, float16, bfloat16, ..."""
        return self.tensors[name].dtype.name

    def read(self, name: str) -> Bits:
        """Read a tensor (read-only if it is memory-mapped); bfloat16 as float32 with the same values.

        Raises LatteError if its checksum does not match.
        """
        tensor = self.tensors[name]
        return widen(tensor.bits(), tensor.dtype)

    def size(self) -> int:
        """Total bytes of the files."""
        return sum(file.stat().st_size for file in self.files)


def open_weights(path: Path, *, weights: Choice = "auto", kind: str = "auto") -> Weights:
    """Open a PyTorch, safetensors or MindSpore file, a sharded checkpoint's index or a diffusers folder.

    weights: the set of weights in a training checkpoint; auto prefers the averaged ones. kind: the model of a
    diffusers pipeline. Nothing in a file is executed. Raises LatteError naming the file and the problem.
    """
    if path.is_dir():
        path = folders.find_weights(path, kind)
    try:
        return _open_index(path, weights) if folders.is_index(path) else _open_file(path, weights)
    except RefusedError as refusal:
        raise LatteError(f"{path}: {refusal}") from refusal


def _open_index(path: Path, which: Choice) -> Weights:
    map_file(path)  # raises LatteError if it is not a readable file
    tensors: dict[str, Tensor] = {}
    shards = folders.read_index(path)
    for shard, names in shards.items():
        part = open_weights(shard)
        by_original = {original: part.tensors[name] for name, original in part.originals.items()}
        if by_original.keys() != set(names):
            odd = min(by_original.keys() ^ set(names))
            raise RefusedError(f"{shown(shard.name)} and the index disagree about {shown(odd)}")
        tensors |= by_original
    return _weights(path, part.format, choose_flat(tensors, which, mindspore=False), files=(path, *shards))


def _open_file(path: Path, which: Choice) -> Weights:
    mapped = map_file(path)
    if mapped[:4] == zip_directory.SIGNATURE:
        return _open_torch(path, torch.read_zip(path, mapped), which)
    if torch.looks_old(mapped):
        return _open_torch(path, torch.read_old(path, mapped), which)
    if safetensors.looks_like(mapped):
        tensors, metadata = safetensors.read_safetensors(path, mapped)
        return _weights(path, "safetensors", choose_flat(tensors, which, mindspore=False), metadata=metadata)
    if mindspore.looks_like(mapped):
        tensors, metadata = mindspore.read_checkpoint(path, mapped)
        return _weights(path, "mindspore", choose_flat(tensors, which, mindspore=True), metadata=metadata)
    raise RefusedError(_stranger(bytes(mapped[: _TAR_AT + len(_TAR_MARK)])))


def _stranger(start: bytes) -> str:
    if start[_TAR_AT:] == _TAR_MARK:
        return "is a tar archive or a file of PyTorch before 0.2: unpack it, or save it with a later version"
    words = next((words for mark, words in _STRANGERS.items() if start.startswith(mark)), None)
    return words or "is not a known weights format (PyTorch, safetensors, MindSpore)"


def _open_torch(path: Path, file: torch.TorchFile, which: Choice) -> Weights:
    chosen = choose_entry(file.content, which)
    tensors = {name: file.tensor(claim) for name, claim in chosen.items.items()}
    return _weights(path, "torch", Chosen(chosen.section, tensors, chosen.ignored))


def _weights(
    path: Path,
    format_: str,
    chosen: Chosen[Tensor],
    *,
    files: tuple[Path, ...] = (),
    metadata: Mapping[str, str] | None = None,
) -> Weights:
    if not chosen.items:
        raise RefusedError("contains no tensors")
    originals = strip_prefixes(list(chosen.items))
    tensors = {name: chosen.items[original] for name, original in originals.items()}
    return Weights(
        path, format_, chosen.section, tensors, originals, chosen.ignored, files or (path,), metadata or {}
    )
