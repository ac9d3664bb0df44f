import json
from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from latte_cli.core.errors import LatteError
from latte_cli.core.kernels import operators as kernels
from latte_cli.core.models.latte.shape import LatteShape
from latte_cli.core.models.latte.transformer import Latte, initialise
from latte_cli.core.models.positions import frame_table, timestep_table, token_table
from latte_cli.core.models.weights import load_weights
from tests.core.models.latte.golden import GOLDEN, arrays, model_of, shape_of, weights_of

pytestmark = pytest.mark.plain

MODELS = ("uncond", "class", "variants")


def call(function: object, x: np.ndarray, t: np.ndarray, y: np.ndarray | None) -> np.ndarray:
    labels = (np.zeros(len(t)) if y is None else y)[:, None]
    result = function(Tensor(x), Tensor(t, ms.int32), Tensor(labels, ms.int32))  # type: ignore[operator]
    return result.asnumpy()


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_compiled_and_eager_forward_passes_match_the_original_and_use_new_weights(name: str) -> None:
    inputs = arrays(name, "inputs.npz")
    model = model_of(name, "ema")
    compiled = ms.jit(model.construct)
    for section in ("ema", "model"):
        load_weights(model, weights_of(name, section), source=name)
        golden = arrays(name, f"golden_{section}.npz")["out"]
        for function in (model, compiled):
            found = call(function, inputs["x"], inputs["t"], inputs.get("y"))
            np.testing.assert_allclose(found, golden, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_both_patch_embedders_match_the_original_with_the_same_weights(name: str) -> None:
    inputs, golden = arrays(name, "inputs.npz"), arrays(name, "golden_ema.npz")
    model = model_of(name, "ema", patch_embedder="linear")
    np.testing.assert_allclose(
        call(model, inputs["x"], inputs["t"], inputs.get("y")), golden["out"], rtol=0, atol=1e-4
    )


def test_every_stage_matches_the_original() -> None:
    model, golden, inputs = (
        model_of("uncond", "ema"),
        arrays("uncond", "golden_ema.npz"),
        arrays("uncond", "inputs.npz"),
    )
    x, t = Tensor(inputs["x"]), Tensor(inputs["t"], ms.int32)
    clips, frames = inputs["x"].shape[:2]
    embedded = model.x_embedder(x.reshape(-1, *x.shape[2:]))
    np.testing.assert_allclose(embedded.asnumpy(), golden["inter.x_embedder"], atol=1e-5)
    np.testing.assert_allclose(
        model.t_embedder.table.asnumpy()[inputs["t"]], golden["inter.t_freq"], atol=1e-4
    )
    timestep = model.t_embedder(model.t_embedder.sinusoids(t))
    np.testing.assert_allclose(timestep.asnumpy(), golden["inter.t_embedder"], atol=1e-4)
    first = model.blocks[0](model.embed(x), timestep)
    spatial = first.asnumpy().reshape(golden["inter.blocks.0"].shape)
    np.testing.assert_allclose(spatial, golden["inter.blocks.0"], atol=1e-4)
    second = model.blocks[1](model.add_frame_places(first), timestep)
    temporal = second.asnumpy().reshape(clips, frames, -1, model.shape.hidden_size).swapaxes(1, 2)
    np.testing.assert_allclose(
        temporal.reshape(golden["inter.blocks.1"].shape), golden["inter.blocks.1"], atol=1e-4
    )
    last = model.final_layer(second, timestep).asnumpy().reshape(golden["inter.final_layer"].shape)
    np.testing.assert_allclose(last, golden["inter.final_layer"], atol=1e-4)


def test_names_and_shapes_match_the_original() -> None:
    for name in MODELS:
        listed = json.loads((GOLDEN / name / "keys.json").read_text())["tensors"]
        found = {p.name: list(p.shape) for p in Latte(shape_of(name)).get_parameters()}
        assert found == {key: shape for key, (_, shape) in listed.items()}


def test_the_same_parameters_as_in_the_original_are_initialised_with_zero() -> None:
    listed = json.loads((GOLDEN / "zero_init.json").read_text())
    model = Latte(shape_of("class"))
    initialise(model, seed=3)
    assert {p.name for p in model.get_parameters() if not p.asnumpy().any()} == set(listed)


def test_matrices_are_initialised_xavier_uniform_and_tables_with_their_std() -> None:
    model = Latte(LatteShape(256, 2, 4, 2, sample_size=8, num_frames=4, condition="class", num_classes=99))
    initialise(model, seed=3)
    values = {p.name: p.asnumpy() for p in model.get_parameters()}
    for name, inputs, outputs in (
        ("blocks.0.attn.qkv.weight", 256, 768),
        ("blocks.1.mlp.fc2.weight", 1024, 256),
        ("x_embedder.proj.weight", 4 * 2 * 2, 256),
    ):
        bound = np.sqrt(6 / (inputs + outputs))
        assert np.abs(values[name]).max() <= bound
        assert values[name].std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    for name in ("y_embedder.embedding_table.weight", "t_embedder.mlp.0.weight", "t_embedder.mlp.2.weight"):
        assert values[name].std() == pytest.approx(0.02, rel=0.02)


def test_without_learned_variance_the_output_has_the_channels_of_the_latents() -> None:
    shape = replace(shape_of("uncond"), learn_sigma=False)
    inputs = arrays("uncond", "inputs.npz")
    model = Latte(shape)
    initialise(model, seed=0)
    assert call(model, inputs["x"], inputs["t"], None).shape == inputs["x"].shape


def test_the_error_for_weights_of_another_model_names_the_tensor() -> None:
    weights = weights_of("uncond", "ema")
    weights["blocks.7.attn.qkv.weight"] = weights.pop("blocks.1.attn.qkv.weight")
    with pytest.raises(
        LatteError, match=r"x\.pt: does not fit the model: blocks\.1\.attn\.qkv\.weight is missing"
    ):
        load_weights(Latte(shape_of("uncond")), weights, source="x.pt")
    weights = weights_of("uncond", "ema")
    weights["pos_embed"] = np.where(weights["pos_embed"] > 1, np.nan, weights["pos_embed"])
    with pytest.raises(LatteError, match=r"^x\.pt: .*: pos_embed contains numbers that are not finite$"):
        load_weights(Latte(shape_of("uncond")), weights, source="x.pt")
    with pytest.raises(LatteError, match=r"pos_embed is \(1, 16, 24\), expected \(1, 64, 24\)"):
        load_weights(Latte(shape_of("uncond", sample_size=16)), weights_of("uncond", "ema"), source="x.pt")


def test_position_and_timestep_tables_match_the_original() -> None:
    with np.load(GOLDEN / "embeddings.npz") as golden:
        for name in golden.files:
            kind, *sizes = name.split("_")
            if kind in ("pos2d", "temp1d"):
                table = (token_table if kind == "pos2d" else frame_table)(*map(int, sizes))
                np.testing.assert_allclose(table, golden[name], rtol=0, atol=1e-12)
        found = timestep_table(256, 1000)[golden["t"]]
        tolerance = np.where(golden["t"] <= 1, 1e-6, 1e-4)[:, None]
        assert (np.abs(found - golden["timestep_embedding_256"]) <= tolerance).all()


def test_operators_match_the_original() -> None:
    with np.load(GOLDEN / "ops.npz") as golden:
        x = Tensor(golden["x"])
        np.testing.assert_allclose(kernels.gelu_tanh(x).asnumpy(), golden["gelu_tanh"], atol=1e-6)
        nothing = ms.ops.zeros((1, x.shape[1]), ms.float32)
        normal = kernels.modulated_layer_norm(x[None], nothing, nothing).asnumpy()[0]
        np.testing.assert_allclose(normal, golden["layernorm_eps1e6_noaffine"], atol=1e-6)
