"""Low-rank adapters: added to a model, saved, and merged into the weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mindspore import Tensor
from safetensors.numpy import load_file, save_file

from latte_cli.core.checkpoints.adapters import Adapter, WithAdapters
from latte_cli.core.checkpoints.lora import Lora, load_lora, save_lora
from latte_cli.core.errors import LatteError
from latte_cli.core.models.architectures import ARCHITECTURES
from latte_cli.core.models.latte_t2v.transformer import LatteT2V, pack_text
from latte_cli.core.models.lora import add_lora, lora_of, train_only
from latte_cli.core.models.weights import load_weights
from tests.core.models.latte_t2v.golden import FOLDER, GOLDEN, SHAPE, golden, weights

pytestmark = pytest.mark.plain


def loaded(source: Any = None) -> LatteT2V:
    model = LatteT2V(SHAPE)
    load_weights(model, weights() if source is None else source, source="golden")
    return model


def changed() -> LatteT2V:
    """A model whose adapters are not zero."""
    model = loaded()
    add_lora(model, rank=3, alpha=6.0, seed=5)
    generator = np.random.default_rng(0)
    for parameter in model.get_parameters():
        if "lora_B" in parameter.name:
            parameter.set_data(Tensor(generator.normal(0, 0.1, parameter.shape).astype(np.float32)))
    return model


def with_lora(lora: Lora, source: str = "lora") -> WithAdapters:
    return WithAdapters(weights(), [Adapter(lora, 1.0, source)])


def output(model: LatteT2V) -> Any:
    recorded = golden()
    latents = np.ascontiguousarray(recorded["hidden_states"].swapaxes(1, 2))
    states = recorded["encoder_hidden_states"]
    packed = pack_text(states, np.ones(states.shape[:2]))[:, None]
    return model(Tensor(latents), Tensor(recorded["timestep"].astype(np.int32)), Tensor(packed)).asnumpy()


def test_adapters_start_at_zero() -> None:
    model = loaded()
    add_lora(model, rank=4, alpha=4.0, seed=1)
    np.testing.assert_array_equal(output(model), output(loaded()))


def test_every_attention_projection_has_an_adapter_and_only_these_are_trained() -> None:
    model = changed()
    train_only(model, ARCHITECTURES["latte-t2v"].parts["lora"])
    projections = [name for name in weights() if ".attn" in name and name.endswith(".weight")]
    expected = {
        name.removesuffix("weight") + f"lora_{letter}.weight" for name in projections for letter in "AB"
    }
    assert {parameter.name for parameter in model.trainable_params()} == expected


@pytest.mark.slow
def test_a_saved_file_merged_into_the_weights_gives_the_output_of_the_trained_model(tmp_path: Path) -> None:
    model, target = changed(), tmp_path / "lora.safetensors"
    save_lora(target, lora_of(model))
    lora = load_lora(target)
    assert {len(a) for a, _ in lora.factors.values()} == {3}
    assert set(lora.alphas.values()) == {6.0}
    merged = loaded(with_lora(lora))
    np.testing.assert_allclose(output(merged), output(model), rtol=0, atol=1e-5)
    assert np.abs(output(merged) - output(loaded())).max() > 0.1


def test_the_output_with_adapters_of_peft_matches_pytorch() -> None:
    recorded = np.load(GOLDEN / "lora" / "golden.npz")["out"]
    found = output(loaded(with_lora(load_lora(GOLDEN / "lora")))).swapaxes(1, 2)
    np.testing.assert_allclose(found, recorded, rtol=0, atol=1e-4)
    assert np.abs(recorded - golden()["out"]).max() > 0.1


def test_the_names_in_a_file_match_peft_and_diffusers(tmp_path: Path) -> None:
    save_lora(tmp_path / "lora.safetensors", lora_of(changed()), dtype="float16")
    arrays = load_file(tmp_path / "lora.safetensors")
    factor = arrays["transformer.transformer_blocks.1.attn2.to_out.0.lora_B.weight"]
    assert factor.shape == (SHAPE.hidden_size, 3)
    assert factor.dtype == np.float16


def test_a_file_without_adapters_is_rejected() -> None:
    path = FOLDER / "diffusion_pytorch_model.safetensors"
    with pytest.raises(LatteError, match=r"expected LoRA weights: names that end with lora_A\.weight"):
        load_lora(path)


def test_an_adapter_with_only_one_factor_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file({"transformer.a.attn1.to_q.lora_A.weight": np.ones((2, 4), np.float32)}, path)
    with pytest.raises(LatteError) as refusal:
        load_lora(path)
    assert (
        str(refusal.value)
        == f"{path}: a.attn1.to_q: expected lora_A (rank, inputs) with lora_B (outputs, rank)"
    )


@pytest.mark.parametrize(
    ("a", "b"), [((), ()), ((4,), (4, 1)), ((2, 4), (4, 3)), ((2, 4, 1), (4, 2)), ((2, 4), (2,))]
)
def test_factors_of_other_shapes_are_rejected(a: tuple[int, ...], b: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    factors = {"x.attn1.to_q.lora_A.weight": np.ones(a), "x.attn1.to_q.lora_B.weight": np.ones(b)}
    save_file({name: np.asarray(values, np.float32) for name, values in factors.items()}, path)
    with pytest.raises(LatteError) as refusal:
        load_lora(path)
    expected = "expected lora_A (rank, inputs) with lora_B (outputs, rank)"
    assert str(refusal.value) == f"{path}: x.attn1.to_q: {expected}"


@pytest.mark.parametrize("alpha", ["x", "nan", "inf", ""])
def test_an_alpha_that_is_not_a_number_is_rejected(alpha: str, tmp_path: Path) -> None:
    path = tmp_path / "alpha.safetensors"
    factors = {"x.lora_A.weight": np.ones((2, 4), np.float32), "x.lora_B.weight": np.ones((4, 2), np.float32)}
    save_file(factors, path, metadata={"alpha": alpha})
    with pytest.raises(LatteError) as refusal:
        load_lora(path)
    assert str(refusal.value) == f'{path}: alpha: found "{alpha}", expected a number'


def test_adapters_of_another_model_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    name = "transformer.transformer_blocks.0.attn1.to_q"
    save_file(
        {
            f"{name}.lora_A.weight": np.ones((2, 8), np.float32),
            f"{name}.lora_B.weight": np.ones((8, 2), np.float32),
        },
        path,
    )
    with pytest.raises(LatteError) as refusal:
        with_lora(load_lora(path), "other.safetensors")
    assert (
        str(refusal.value)
        == "other.safetensors: transformer_blocks.0.attn1.to_q: found (8, 8), expected (24, 24)"
    )
