import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from latte_cli.core.checkpoints import save as store
from latte_cli.core.checkpoints.dtypes import DTYPES, FLOATS, cast, widen
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.checkpoints.save import save_weights
from latte_cli.core.checkpoints.tensors import InMemory
from latte_cli.core.errors import LatteError
from tests.core.checkpoints.reference import read_torch_zip

SUFFIXES = (".ckpt", ".safetensors", ".pt")


def numbers() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {
        "matrix": rng.standard_normal((5, 7)).astype(np.float32),
        "turned": rng.standard_normal((5, 7)).astype(np.float32).T,
        "half": rng.standard_normal(9).astype(np.float16),
        "double": rng.standard_normal((2, 1, 3)),
        "scalar": np.float32(3.5).reshape(()),
        "count": np.array(-(1 << 40), np.int64),
        "one": np.array([2], np.int32),
        "flags": np.array([True, False]),
        "words": rng.integers(0, 255, (2, 3), np.uint8),
        "large": rng.standard_normal((3, 1 << 20)).astype(np.float32),
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_written_weights_are_read_back_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    save_weights(path, numbers())
    weights = open_weights(path)
    assert set(weights.names) == set(numbers())
    for name, array in numbers().items():
        assert (weights.dtype(name), weights.shape(name)) == (array.dtype.name, array.shape)
        assert np.array_equal(weights.read(name), array)


@pytest.mark.parametrize(("suffix", "dtype"), itertools.product(SUFFIXES, ("float32", "float16", "bfloat16")))
def test_floats_are_rounded_to_the_requested_type_and_integers_are_not(
    tmp_path: Path, suffix: str, dtype: str
) -> None:
    path = tmp_path / f"x{suffix}"
    save_weights(path, numbers(), dtype=dtype)
    weights = open_weights(path)
    for name, array in numbers().items():
        row = DTYPES[array.dtype.name]
        stored = DTYPES[dtype] if row.name in FLOATS else row
        assert weights.dtype(name) == stored.name
        expected = (
            widen(cast(np.array(array, order="C"), row, stored), stored) if row.name in FLOATS else array
        )
        assert np.array_equal(weights.read(name), expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bfloat16_is_written_unchanged(tmp_path: Path, suffix: str) -> None:
    words = np.array([[0x3F80, 0x8000], [0x0001, 0xC2F7]], np.uint16)
    save_weights(tmp_path / f"x{suffix}", {"w": InMemory(words, DTYPES["bfloat16"])})
    weights = open_weights(tmp_path / f"x{suffix}")
    assert weights.dtype("w") == "bfloat16"
    assert np.array_equal(weights.tensors["w"].bits(), words)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_tensor_with_infinity_or_nan_is_rejected_and_no_file_is_written(
    tmp_path: Path, suffix: str
) -> None:
    target = tmp_path / f"x{suffix}"
    for evil in (np.inf, -np.inf, np.nan):
        arrays = numbers()
        arrays["large"][2, 77] = evil
        with pytest.raises(LatteError, match=r"large contains an infinity or NaN$"):
            save_weights(target, arrays, finite=True)
    arrays["large"][2, 77] = 1e30
    with pytest.raises(LatteError, match=r"large contains numbers too large for float16$"):
        save_weights(target, arrays, finite=True, dtype="float16")
    assert list(tmp_path.iterdir()) == []
    arrays["large"][:] = 3e38  # finite, but their sum is not
    save_weights(target, arrays, finite=True)


def test_the_safetensors_library_reads_our_files(tmp_path: Path) -> None:
    save_weights(tmp_path / "x.safetensors", numbers(), metadata={"step": "7"})
    read = load_file(tmp_path / "x.safetensors")
    for name, array in numbers().items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(read[name], array)


def test_files_of_the_safetensors_library_are_read(tmp_path: Path) -> None:
    arrays = {name: np.array(array, order="C") for name, array in numbers().items()}
    save_file(arrays, tmp_path / "x.safetensors", {"format": "pt"})
    weights = open_weights(tmp_path / "x.safetensors")
    assert all(np.array_equal(weights.read(name), array) for name, array in arrays.items())
    assert weights.metadata == {"format": "pt"}


@pytest.mark.parametrize("entry", [None, "ema"])
def test_a_plain_unpickler_reads_our_pytorch_file(tmp_path: Path, entry: str | None) -> None:
    arrays = {name: numbers()[name] for name in ("matrix", "turned", "half", "double", "scalar", "large")}
    save_weights(tmp_path / "x.pt", arrays, entry=entry)
    content = read_torch_zip(tmp_path / "x.pt")
    assert entry is None or list(content) == [entry]
    read = content if entry is None else content[entry]
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(read[name], array)


@pytest.mark.slow
def test_mindspore_reads_our_files_and_its_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mindspore as ms

    monkeypatch.setattr(store, "_SLICE_BYTES", 5 << 20)  # so that "large" is stored in three entries
    save_weights(tmp_path / "ours.ckpt", numbers(), metadata={"note": "naïve"})
    read = ms.load_checkpoint(str(tmp_path / "ours.ckpt"), crc_check=True)
    assert read.pop("note") == "naïve"
    assert set(read) == set(numbers())
    for name, array in numbers().items():
        found = read[name].asnumpy()
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert np.array_equal(found, array)

    rows = [
        {"name": name, "data": ms.Tensor(np.array(array, order="C"))} for name, array in numbers().items()
    ]
    rows.append({"name": "brain", "data": ms.Tensor([1.5, -2.0], ms.bfloat16)})
    for checked in (False, True):
        path = tmp_path / f"theirs{checked}.ckpt"
        ms.save_checkpoint(rows, str(path), append_dict={"epoch": 3, "note": "hello"}, crc_check=checked)
        weights = open_weights(path)
        assert all(np.array_equal(weights.read(name), array) for name, array in numbers().items())
        assert (weights.dtype("brain"), weights.read("brain").tolist()) == ("bfloat16", [1.5, -2.0])
        assert (weights.read("epoch"), weights.metadata) == (3, {"note": "hello"})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_changed_byte_of_the_values_is_detected(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    save_weights(path, {"w": np.arange(1000, dtype=np.float32)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(LatteError, match="damaged"):
        open_weights(path).read("w")


@pytest.mark.parametrize("suffix", SUFFIXES[:2])
def test_averaged_weights_of_a_training_checkpoint_are_used(tmp_path: Path, suffix: str) -> None:
    parts = {
        part: {"w": np.full(3, index, np.float32)} for index, part in enumerate(("model", "ema", "optimizer"))
    }
    arrays = {f"{part}/{name}": array for part, items in parts.items() for name, array in items.items()}
    save_weights(tmp_path / f"x{suffix}", arrays, metadata={"step": "12"})
    weights = open_weights(tmp_path / f"x{suffix}")
    assert (weights.section, weights.names, weights.metadata["step"]) == ("ema", ("w",), "12")
    assert weights.read("w").tolist() == [1, 1, 1]
    assert weights.ignored == {
        "model (1)": "another set of weights, for --weights model",
        "optimizer (1)": "not weights of the model",
    }
    assert open_weights(tmp_path / f"x{suffix}", weights="model").read("w").tolist() == [0, 0, 0]


def test_an_unknown_suffix_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(
        LatteError, match=r"x\.npz: found suffix '\.npz', expected \.ckpt, \.safetensors or \.pt"
    ):
        save_weights(tmp_path / "x.npz", {})
