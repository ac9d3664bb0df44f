from pathlib import Path

import numpy as np
import pytest

from latte_cli.core.checkpoints.open import Weights, open_weights
from latte_cli.core.errors import LatteError
from tests.core.checkpoints import hostile
from tests.core.checkpoints.reference import DIGESTS, GOLDEN, digest


@pytest.mark.parametrize(
    ("file", "section"), [(file, section) for file in DIGESTS for section in DIGESTS[file]]
)
def test_every_tensor_has_the_same_bits_as_in_pytorch(file: str, section: str) -> None:
    weights = open_weights(GOLDEN / file, weights="auto" if section == "bare" else section)
    assert weights.section == section
    found = {name: digest(tensor.bits(), tensor.dtype.name) for name, tensor in weights.tensors.items()}
    assert found == DIGESTS[file][section]


@pytest.mark.parametrize(
    "file", ["latte/variants/ckpt_train.pt", "latte/variants/ckpt_dit_style_opt_args.pt"]
)
def test_averaged_weights_are_preferred(file: str) -> None:
    assert open_weights(GOLDEN / file).section == "ema"


def test_ignored_entries_are_listed_with_the_reason() -> None:
    assert open_weights(GOLDEN / "latte/variants/ckpt_dit_style_opt_args.pt").ignored == {
        "model": "another set of weights, for --weights model",
        "opt": "not weights of the model",
        "args": "not weights of the model",
    }


def test_requesting_a_missing_set_is_an_error() -> None:
    with pytest.raises(LatteError, match=r"ckpt_train_with_img\.pt: contains no model weights, only ema$"):
        open_weights(GOLDEN / "latte/variants/ckpt_train_with_img.pt", weights="model")
    with pytest.raises(
        LatteError, match=r"bare_state_dict\.pt: contains only one set of weights, not marked as ema"
    ):
        open_weights(GOLDEN / "latte/variants/bare_state_dict.pt", weights="ema")


def test_bfloat16_is_read_as_float32_with_the_same_values() -> None:
    rounded = open_weights(GOLDEN / "latte/variants/bf16_ema.pt")
    exact = open_weights(GOLDEN / "latte/variants/ckpt_train_with_img.pt")
    for name in exact.names:
        assert rounded.dtype(name) == "bfloat16"
        assert rounded.read(name).dtype == np.float32
        # Eight significant bits: half a unit in the last place is 2^-8 of the power of two below the value.
        power = np.exp2(np.floor(np.log2(np.maximum(np.abs(exact.read(name)), 1e-37))))
        assert (np.abs(rounded.read(name) - exact.read(name)) <= power * 2**-8).all()
        assert not (rounded.read(name).view(np.uint32) & 0xFFFF).any()


def test_offsets_strides_and_repetition_match_numpy(tmp_path: Path) -> None:
    numbers = np.arange(12, dtype="<f4")
    views = {
        "transposed": ((3, 4), (1, 3), 0, numbers.reshape(4, 3).T),
        "tail": ((5,), (1,), 7, numbers[7:]),
        "every other": ((3, 2), (4, 2), 1, numbers.reshape(3, 4)[:, 1::2]),
        "repeated": ((2, 3), (0, 1), 2, np.broadcast_to(numbers[2:5], (2, 3))),
        "scalar": ((), (), 4, numbers[4].reshape(())),
    }
    of = hostile.storage(count=12)
    for name, (shape, strides, offset, expected) in views.items():
        pickled = hostile.checkpoint(hostile.tensor(shape, strides, offset=offset, of=of))
        path = hostile.zip_file(tmp_path / f"{name}.pt", pickled, {"data/0": numbers.tobytes()})
        assert np.array_equal(open_weights(path).read("w"), expected), name
        old = hostile.old_file(tmp_path / f"{name}.old", pickled, {"0": numbers.tobytes()})
        assert np.array_equal(open_weights(old).read("w"), expected), name


def test_views_in_the_oldest_format_start_at_their_offset(tmp_path: Path) -> None:
    numbers = np.arange(12, dtype="<f4")
    view = b"(" + hostile.text("v") + hostile.integer(3) + hostile.integer(4) + b"t"
    of = hostile.storage(count=12).removesuffix(b"tQ") + view + b"tQ"
    pickled = hostile.checkpoint(hostile.tensor((2, 2), (2, 1), offset=1, of=of))
    path = hostile.old_file(tmp_path / "view.pt", pickled, {"0": numbers.tobytes()})
    assert np.array_equal(open_weights(path).read("w"), numbers[4:8].reshape(2, 2))


def test_only_requested_storages_are_read_and_checked() -> None:
    weights = open_weights(GOLDEN / "bad/corrupt_crc.pt")
    assert sum(is_damaged(weights, name) for name in weights.names) == 1


def is_damaged(weights: Weights, name: str) -> bool:
    try:
        weights.read(name)
    except LatteError as error:
        return str(error).endswith("is damaged: its bytes do not match their checksum")
    return False


@pytest.mark.parametrize("start", [b"\x80\x03\x8a\n", b"\x80\x04\x95\r\x00\x00\x00\x00\x00\x00\x00\x8a\n"])
def test_the_old_format_is_recognised_with_any_pickle_protocol(tmp_path: Path, start: bytes) -> None:
    content = (GOLDEN / "latte/variants/legacy_bare.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(start + content.removeprefix(b"\x80\x02\x8a\n"))
    assert len(open_weights(tmp_path / "x.pt").names) == 33
