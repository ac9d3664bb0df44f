"""Weights read in the simplest way, with Python's zipfile and pickle, for files that the tests trust."""

import hashlib
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parents[2] / "golden"
DIGESTS = json.loads((GOLDEN / "weights_sha256.json").read_text())
_BITS = {"FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "<u2", "DoubleStorage": "<f8"}


def digest(bits: np.ndarray[Any, Any], dtype: str) -> str:
    """A tensor as weights_sha256.json has it: number type, and the hash of the little-endian bytes."""
    return f"{dtype} {hashlib.sha256(np.ascontiguousarray(bits).tobytes()).hexdigest()[:32]}"


def read_torch_zip(path: Path) -> Any:
    """What torch.load returns for a file whose tensors fill their storages, arrays in place of tensors."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return _Unpickler(archive).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.folder = archive.namelist()[0].partition("/")[0]
        super().__init__(io.BytesIO(archive.read(f"{self.folder}/data.pkl")))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch":
            return name
        assert (module, name) == ("collections", "OrderedDict")
        return dict

    def persistent_load(self, pid: Any) -> Any:
        array = np.frombuffer(self.archive.read(f"{self.folder}/data/{pid[2]}"), _BITS[pid[1]])
        assert (pid[0], pid[3], pid[4]) == ("storage", "cpu", array.size)
        return array


def _rebuild(array: Any, offset: int, shape: Any, strides: Any, requires_grad: bool, hooks: Any) -> Any:
    assert (offset, requires_grad, hooks) == (0, False, {})
    shaped = array.reshape(shape)
    assert tuple(step // array.itemsize for step in shaped.strides) == strides
    return shaped
