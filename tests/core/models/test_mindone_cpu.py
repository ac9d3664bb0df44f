"""The functions that stand in for mint's on a CPU, against NumPy, and MindONE's models on top of them."""

import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, mint

from latte_cli.core.models.mindone_cpu import quiet_imports, supply_cpu_kernels

GOLDEN = Path(__file__).parents[2] / "golden"
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def supplied() -> None:
    supply_cpu_kernels()


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def test_supplying_again_changes_nothing() -> None:
    before = (mint.stack, mint.nn.Conv2d.construct, Tensor.repeat_interleave)
    supply_cpu_kernels()
    assert before == (mint.stack, mint.nn.Conv2d.construct, Tensor.repeat_interleave)


def test_names_that_mindone_imported_by_value_before_are_replaced_too() -> None:
    code = (
        "from mindone.diffusers.models import layers_compat;"
        "before = layers_compat.pad;"
        "from latte_cli.core.models.mindone_cpu import supply_cpu_kernels;"
        "supply_cpu_kernels();"
        "from mindspore import mint;"
        "assert layers_compat.pad is mint.nn.functional.pad is not before"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_mindone_prints_nothing_on_stdout() -> None:
    code = (
        "from latte_cli.core.models.mindone_cpu import quiet_imports, supply_cpu_kernels\n"
        "supply_cpu_kernels()\n"
        "with quiet_imports():\n"
        "    from mindone.diffusers import LattePipeline\n"
        "    from mindone.transformers import T5EncoderModel\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == ""


def test_quiet_imports_gives_logging_and_stdout_back(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    with quiet_imports():
        print("chatter")
    print("result")
    assert capsys.readouterr().out == "result\n"
    assert logging.getLogger("latte").isEnabledFor(logging.WARNING)


def test_small_functions_equal_numpy_s() -> None:
    a, b, c = numbers(2, 3, 4), numbers(2, 4, 5), numbers(2, 3, 5)
    np.testing.assert_array_equal(mint.stack([Tensor(a), Tensor(a)], dim=1).asnumpy(), np.stack([a, a], 1))
    np.testing.assert_array_equal(mint.arange(2, 9, 3).asnumpy(), np.arange(2, 9, 3))
    np.testing.assert_array_equal(mint.ones_like(Tensor(a)).asnumpy(), np.ones_like(a))
    np.testing.assert_allclose(
        mint.outer(Tensor(a[0, 0]), Tensor(b[0, 0])).asnumpy(), np.outer(a[0, 0], b[0, 0])
    )
    product = mint.baddbmm(Tensor(c), Tensor(a), Tensor(b), beta=0.5, alpha=2.0).asnumpy()
    np.testing.assert_allclose(product, 0.5 * c + 2 * a @ b, rtol=1e-5, atol=1e-5)
    unread = mint.baddbmm(Tensor(np.full_like(c, np.nan)), Tensor(a), Tensor(b), beta=0).asnumpy()
    np.testing.assert_allclose(unread, a @ b, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(mint.einsum("abc->cab", Tensor(a)).asnumpy(), a.transpose(2, 0, 1))
    with pytest.raises(NotImplementedError, match="permutes only"):
        mint.einsum("abc->ab", Tensor(a))


@pytest.mark.parametrize("dim", [None, 0, 1, -1])
def test_repeat_interleave_equals_numpy_s(dim: int | None) -> None:
    a = numbers(2, 3, 4)
    wanted = np.repeat(a, 3, axis=dim)
    np.testing.assert_array_equal(mint.repeat_interleave(Tensor(a), 3, dim).asnumpy(), wanted)
    np.testing.assert_array_equal(Tensor(a).repeat_interleave(3, dim, output_size=1).asnumpy(), wanted)


def test_pixels_are_doubled_by_nearest_neighbours() -> None:
    a = numbers(2, 3, 4, 5)
    doubled = mint.nn.functional.interpolate(Tensor(a), size=(8, 10), mode="nearest").asnumpy()
    np.testing.assert_array_equal(doubled, a.repeat(2, 2).repeat(2, 3))


def test_layer_norm_without_weights_normalises_the_last_axes() -> None:
    a = numbers(2, 3, 4)
    found = mint.nn.functional.layer_norm(Tensor(a), (3, 4), eps=1e-6).asnumpy()
    centred = a.astype(np.float64) - a.mean((1, 2), keepdims=True, dtype=np.float64)
    wanted = centred / np.sqrt((centred**2).mean((1, 2), keepdims=True) + 1e-6)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_t5_equals_the_original() -> None:
    with quiet_imports():
        from mindone.transformers import T5EncoderModel

        encoder = T5EncoderModel.from_pretrained(str(GOLDEN / "t2v/pipeline/text_encoder")).set_train(False)
    golden = np.load(GOLDEN / "t2v/pipeline_golden.npz")
    ids, mask = (Tensor(golden[name][:1].astype(np.int32)) for name in ("input_ids", "attention_mask"))
    hidden = encoder(ids, attention_mask=mask)[0].asnumpy()[0]
    wanted = golden["text_hidden_valid"]
    np.testing.assert_allclose(hidden[: len(wanted)], wanted, rtol=0, atol=1e-4)


def test_the_text_to_video_transformer_equals_the_original() -> None:
    with quiet_imports():
        from mindone.diffusers import LatteTransformer3DModel

        folder = str(GOLDEN / "t2v/pipeline/transformer")
        transformer = LatteTransformer3DModel.from_pretrained(folder).set_train(False)
    golden = np.load(GOLDEN / "t2v/transformer_golden.npz")
    states, timestep, text = (
        Tensor(golden[name]) for name in ("hidden_states", "timestep", "encoder_hidden_states")
    )
    out = transformer(states, timestep=timestep, encoder_hidden_states=text)[0].asnumpy()
    np.testing.assert_allclose(out, golden["out"], rtol=0, atol=1e-4)
    assert ms.get_context("device_target") == "CPU"
