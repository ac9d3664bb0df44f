"""T5's encoder, compared with its formulas in float64 for lengths that use every relative position bucket."""

import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from latte_cli.core.checkpoints.dtypes import DTYPES, cast
from latte_cli.core.checkpoints.save import save_weights
from latte_cli.core.errors import LatteError
from latte_cli.core.models.text.config import parse_config
from latte_cli.core.models.text.mindspore_operators import MindSporeOperators
from latte_cli.core.models.text.numpy_operators import NumpyOperators
from latte_cli.core.models.text.operators import Operators
from latte_cli.core.models.text.t5 import ALIASES, T5Config, relative_buckets, t5_states
from latte_cli.core.models.text.weights import StreamedWeights
from tests.core.models.text.small_t5 import CONFIG, FIRST_DISTANCES, save_config, t5_formulas, t5_weights

LENGTHS = [17, 22, 33, 65, 120, 300]


def states(folder: Path, operators: Operators, ids: NDArray[np.int32], *numbers: int) -> NDArray[np.float32]:
    config = parse_config(T5Config, json.loads((folder / "config.json").read_text()), source="config.json")
    weights = StreamedWeights(folder, config.shapes(), ALIASES)
    mask = np.arange(ids.shape[1]) < np.array(numbers)[:, None]
    return t5_states(config, weights, operators, ids, mask)


def save(folder: Path, config: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    weights = t5_weights(config)
    save_config(folder, config)
    save_file(weights, folder / "model.safetensors")
    return weights


def some_ids(texts: int, tokens: int) -> NDArray[np.int32]:
    return np.random.default_rng(1).integers(0, 50, (texts, tokens), dtype=np.int32)


def check_states(found: NDArray[np.float32], expected: NDArray[np.float64]) -> None:
    """Check that states equal their formulas but for the rounding of float32."""
    assert np.abs(found - expected).max() < 2e-6 * np.abs(expected).max()


@pytest.mark.plain
@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("feed_forward", ["gated-gelu", "relu"])
def test_states_match_the_formulas(tmp_path: Path, feed_forward: str, tokens: int) -> None:
    config = CONFIG | {"feed_forward_proj": feed_forward}
    weights, ids = save(tmp_path, config), some_ids(2, max(tokens, 120))
    found = states(tmp_path, NumpyOperators(), ids, tokens, 5)
    for row, number in enumerate((tokens, 5)):
        check_states(found[row], t5_formulas(config, weights, ids[row], number))


@pytest.mark.parametrize(("dtype", "error"), [("float32", 5e-6), ("float16", 5e-3)])
def test_the_operators_of_mindspore_give_the_same_states(tmp_path: Path, dtype: str, error: float) -> None:
    weights, ids = save(tmp_path, CONFIG), some_ids(2, 120)
    found = states(tmp_path, MindSporeOperators(dtype), ids, 65, 120)
    for row, number in enumerate((65, 120)):
        expected = t5_formulas(CONFIG, weights, ids[row], number)
        assert np.abs(found[row] - expected).max() < error * np.abs(expected).max()


def test_relative_position_buckets_match_transformers() -> None:
    rows = relative_buckets(2001, 32, 128)
    distances = np.arange(2001)
    expected = np.searchsorted(FIRST_DISTANCES, distances, side="right") - 1
    np.testing.assert_array_equal(rows[:, 0], expected)
    np.testing.assert_array_equal(rows[0, 1:], expected[1:] + 16)


@pytest.mark.plain
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_weights_of_any_type_are_read_as_float32_with_the_same_values(tmp_path: Path, dtype: str) -> None:
    save_config(tmp_path, CONFIG)
    kind, single = DTYPES[dtype], DTYPES["float32"]
    bits = {name: cast(array, single, kind) for name, array in t5_weights(CONFIG).items()}
    _save_bits(tmp_path / "model.safetensors", bits, str(kind.safetensors))
    weights, ids = {name: cast(array, kind, single) for name, array in bits.items()}, some_ids(1, 20)
    (found,) = states(tmp_path, NumpyOperators(), ids, 20)
    check_states(found, t5_formulas(CONFIG, weights, ids[0], 20))


@pytest.mark.plain
def test_shards_of_pytorch_files_are_read(tmp_path: Path) -> None:
    weights, ids = t5_weights(CONFIG), some_ids(1, 20)
    save_config(tmp_path, CONFIG)
    expected = t5_formulas(CONFIG, weights, ids[0], 20)
    weights["encoder.embed_tokens.weight"] = weights.pop("shared.weight")  # the table's second name
    names = list(weights)
    parts = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for part, held in parts.items():
        # save_weights tells the format by .pt; transformers calls the same file .bin
        save_weights(tmp_path / f"{part}.pt", {name: weights[name] for name in held})
        (tmp_path / f"{part}.pt").rename(tmp_path / part)
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (found,) = states(tmp_path, NumpyOperators(), ids, 20)
    check_states(found, expected)


class Watching(NumpyOperators):
    """Operators that record the memory of the process at each matrix product."""

    def __init__(self) -> None:
        self.resident: list[int] = []

    def linear(self, *args: Any, **kwargs: Any) -> NDArray[np.float32]:
        product = super().linear(*args, **kwargs)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.resident.append(pages * resource.getpagesize())
        return product


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_memory_does_not_depend_on_the_number_of_layers(tmp_path: Path) -> None:
    config = CONFIG | {"d_model": 1024, "d_kv": 64, "num_heads": 16, "d_ff": 4096, "num_layers": 3}
    weights = save(tmp_path, config)
    assert sum(array.nbytes for array in weights.values()) > 190 << 20
    del weights
    operators = Watching()
    states(tmp_path, operators, some_ids(1, 20), 20)
    assert max(operators.resident) - operators.resident[0] < 40 << 20  # a matrix has 16 MiB


def test_a_token_outside_the_table_gives_a_one_line_error(tmp_path: Path) -> None:
    save(tmp_path, CONFIG)
    with pytest.raises(LatteError, match=r"shared.weight: found 50 rows, but the tokenizer uses token 50$"):
        states(tmp_path, NumpyOperators(), np.array([[1, 50]], np.int32), 2)


def _save_bits(path: Path, arrays: dict[str, NDArray[Any]], dtype: str) -> None:
    """A safetensors file of raw bits with the given type names."""
    header, at = {}, 0
    for name, array in arrays.items():
        offsets = [at, at := at + array.nbytes]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
    text = json.dumps(header).encode()
    content = b"".join(array.tobytes() for array in arrays.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
