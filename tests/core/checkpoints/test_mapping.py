import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latte_cli.core.checkpoints.layouts.latte import describe_latte, latte_layout
from latte_cli.core.checkpoints.layouts.vae import diffusers_name
from latte_cli.core.checkpoints.limits import MAX_OVERLAP_BYTES
from latte_cli.core.checkpoints.mapping import LazyWeights, Mapped, load_latte, map_weights
from latte_cli.core.checkpoints.open import Weights
from latte_cli.core.checkpoints.save import save_weights
from latte_cli.core.checkpoints.tensors import InMemory, Shape, Tensor
from latte_cli.core.errors import LatteError
from latte_cli.core.models.latte.presets import PRESETS, preset_of
from tests.core.checkpoints.reference import GOLDEN

KEYS = {path.stem: json.loads(path.read_text()) for path in (GOLDEN / "keys").glob("*.json")}
VAE = KEYS["sd-vae-ft-mse"]


def shapes(listed: Mapping[str, tuple[str, list[int]]]) -> dict[str, Shape]:
    return {name: tuple(shape) for name, (_, shape) in listed.items()}


def mapped(listed: Mapping[str, Shape], path: Path = GOLDEN, *, size: int = 1 << 40, **dtypes: str) -> Mapped:
    """The mapping of tensors that have shapes but take no memory."""
    tensors: dict[str, Tensor] = {
        name: InMemory(np.broadcast_to(np.zeros((), dtypes.get(name, "float32")), shape))
        for name, shape in listed.items()
    }
    weights = Weights(path, "torch", "bare", tensors, {name: name for name in tensors}, {}, ())
    object.__setattr__(weights, "size", lambda: size)
    return map_weights(weights)


@pytest.mark.parametrize("name", [name for name in KEYS if name.startswith("Latte-")])
def test_the_full_size_latte_keeps_its_names_and_shapes(name: str) -> None:
    listed = shapes(KEYS[name]["tensors"])
    found = mapped(listed)
    assert (found.kind, found.parameters()) == ("latte", KEYS[name]["num_params"])
    assert {key: tensor.shape for key, tensor in found.tensors.items()} == listed
    assert found.sources == {key: key for key in listed}
    assert found.ignored == {}


def test_the_full_size_latte_is_described_by_its_shapes() -> None:
    found = describe_latte(shapes(KEYS["Latte-XL-2_ucf101_class101_256_f16"]["tensors"]))
    assert preset_of(found) == "Latte-XL/2"
    assert (found.hidden_size, found.depth, found.patch_size, found.num_frames) == (1152, 28, 2, 16)
    assert (found.image_size, found.condition, found.num_classes) == (256, "class", 101)
    assert (found.learn_sigma, found.mlp_ratio) == (True, 4)
    found = describe_latte(shapes(KEYS["Latte-XL-2_uncond_256_f16"]["tensors"]))
    assert (preset_of(found), found.condition, found.num_classes) == ("Latte-XL/2", "none", None)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("condition", ["none", "class", "text"])
def test_every_preset_is_recognised_by_its_layout(name: str, condition: str) -> None:
    size = PRESETS[name]
    base = describe_latte(shapes(KEYS["Latte-XL-2_uncond_256_f16"]["tensors"]))
    expected = {
        "hidden_size": size.hidden_size,
        "depth": size.depth,
        "patch_size": size.patch_size,
        "image_size": 512,
        "num_frames": 8,
        "condition": condition,
        "num_classes": 7 if condition == "class" else None,
        "text_features": 77 * 768 if condition == "text" else None,
        "learn_sigma": False,
        "mlp_ratio": 4.0,
    }
    described = type(base)(**expected)
    assert describe_latte(latte_layout(described)) == described
    assert preset_of(described) == name


def test_the_full_size_video_transformer_keeps_its_names_and_shapes() -> None:
    listed = shapes(KEYS["LatteTransformer3DModel_Latte-1"]["tensors"])
    found = mapped(listed | {"caption_projection.y_embedding": (120, 4096)})
    assert (found.kind, found.parameters()) == ("t2v", KEYS["LatteTransformer3DModel_Latte-1"]["num_params"])
    assert {key: tensor.shape for key, tensor in found.tensors.items()} == listed
    assert list(found.ignored) == ["caption_projection.y_embedding"]


def test_the_full_size_autoencoder_is_mapped_from_every_layout() -> None:
    expected = shapes(VAE["diffusers"])
    old_names = {VAE["old_attn_renames"].get(name, name): shape for name, shape in expected.items()}
    inside = {f"first_stage_model.{name}": shape for name, shape in shapes(VAE["ldm"]).items()}
    for listed in (expected, old_names, shapes(VAE["ldm"]), inside | {"model.diffusion_model.x": (1,)}):
        found = mapped(listed)
        assert (found.kind, found.parameters()) == ("vae", VAE["num_params"])
        assert {key: tensor.shape for key, tensor in found.tensors.items()} == expected


def test_compvis_names_and_diffusers_names_are_one_to_one() -> None:
    # The table lists changed names; quant_conv and similar ones have the same name in both.
    to_ldm = {name: VAE["diffusers_to_ldm"].get(name, name) for name in VAE["diffusers"]}
    assert set(to_ldm.values()) == set(VAE["ldm"])
    assert {diffusers_name(ldm, stages=4): ldm for ldm in VAE["ldm"]} == to_ldm


def uncond() -> dict[str, Shape]:
    return shapes(json.loads((GOLDEN / "latte/uncond/keys.json").read_text())["tensors"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"blocks.1.mlp.fc1.bias": None}, "missing blocks.1.mlp.fc1.bias"),
        ({"pos_embed": None}, "missing pos_embed"),
        ({"blocks.1.mlp.fc1.bias": (95,)}, "blocks.1.mlp.fc1.bias of shape (95,), expected (96,)"),
        ({"x_embedder.proj.bias": (23,)}, "x_embedder.proj.bias of shape (23,), expected (24,)"),
        ({"pos_embed": (1, 15, 24)}, "15 tokens"),
        ({"temp_embed": (1, 0, 24)}, "0 frames"),
        ({"extra": (1,)}, "unexpected extra"),
        ({"blocks.9999.x": (1,)}, "unexpected blocks.9999.x"),
        ({"x_embedder.proj.weight": (24, 3, 2, 2)}, "expected (width, 4, patch, patch)"),
        ({"x_embedder.proj.weight": (24, 17)}, "not a patch embedder of four channels"),
        ({"final_layer.linear.bias": (33,)}, "final_layer.linear.bias of shape (33,), expected (32,)"),
        ({"temp_embed": None}, "missing temp_embed"),
    ],
)
def test_the_error_names_missing_unexpected_and_misshapen_tensors(
    change: dict[str, Shape | None], words: str
) -> None:
    listed = {name: shape for name, shape in {**uncond(), **change}.items() if shape is not None}
    with pytest.raises(LatteError) as caught:
        mapped(listed)
    assert words in str(caught.value)


def test_the_error_for_an_unknown_model_names_its_tensors() -> None:
    with pytest.raises(
        LatteError, match=r"contains bert\.layer, expected a Latte checkpoint or a Stable Diffusion"
    ):
        mapped({"bert.layer": (1,)})


def test_the_error_for_another_model_names_it_and_the_convert_command() -> None:
    with pytest.raises(LatteError) as caught:
        load_latte(GOLDEN / "vae/ldm_bare.safetensors")
    assert str(caught.value) == (
        f"{GOLDEN}/vae/ldm_bare.safetensors: is a Stable Diffusion autoencoder, expected a Latte checkpoint; "
        "to create it again: latte convert --kind latte --source <original> --target ldm_bare.ckpt --force"
    )
    words = r"truncated_zip\.pt: is truncated: .*; to create it again: latte convert --kind latte"
    with pytest.raises(LatteError, match=words):
        load_latte(GOLDEN / "bad/truncated_zip.pt")


def test_many_tensors_over_one_storage_are_rejected(tmp_path: Path) -> None:
    from tests.core.checkpoints import hostile

    listed = shapes(KEYS["Latte-XL-2_uncond_256_f16"]["tensors"])
    of = hostile.storage(count=1 << 20)
    items = b"".join(
        hostile.text(name) + hostile.tensor(shape, (0,) * len(shape), of=of)
        for name, shape in listed.items()
        if np.prod(shape) <= 1 << 20
    )
    large = b"".join(
        hostile.text(name) + hostile.tensor(shape, (0,) * len(shape), of=hostile.storage("1", 1 << 24))
        for name, shape in listed.items()
        if np.prod(shape) > 1 << 20
    )
    pickled = b"\x80\x02}" + hostile.text("ema") + b"}(" + items + large + b"us."
    path = hostile.zip_file(tmp_path / "x.pt", pickled, {"data/0": bytes(1 << 22), "data/1": bytes(1 << 26)})
    with pytest.raises(LatteError, match=r"its tensors claim 2695979648 bytes, the file has 71\d{6};"):
        load_latte(path)


def test_the_linear_patch_embedder_of_mindone_becomes_a_convolution(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    listed = uncond()
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in listed.items()}
    convolution = arrays["x_embedder.proj.weight"]
    # MindONE's LinearPatchEmbed flattens a patch row by row, its channels last.
    linear = np.stack(
        [[convolution[o, c, y, x] for y in (0, 1) for x in (0, 1) for c in range(4)] for o in range(24)]
    )
    theirs = {
        f"network.{name}": array for name, array in (arrays | {"x_embedder.proj.weight": linear}).items()
    }
    save_weights(tmp_path / "theirs.ckpt", theirs)
    found = load_latte(tmp_path / "theirs.ckpt")
    assert {name: found.read(name).tolist() for name in listed} == {
        name: arrays[name].tolist() for name in listed
    }


def test_tensors_can_claim_twice_the_file_size_and_the_overlap_but_not_more() -> None:
    listed = shapes(KEYS["Latte-XL-2_uncond_256_f16"]["tensors"])
    claimed = 4 * KEYS["Latte-XL-2_uncond_256_f16"]["num_params"]
    least = (claimed - MAX_OVERLAP_BYTES) // 2
    assert mapped(listed, size=least).kind == "latte"
    with pytest.raises(LatteError, match=f"its tensors claim {claimed} bytes, the file has {least - 1}"):
        mapped(listed, size=least - 1)


def test_a_tensor_is_released_when_the_next_is_read() -> None:
    released: list[str] = []

    class Recorded(InMemory):
        def release(self) -> None:
            released.append("x")

    model = mapped(uncond())
    tensors: dict[str, Tensor] = {
        name: Recorded(np.full((2,), place, np.float32)) for place, name in enumerate(("a", "b", "c"))
    }
    lazy = LazyWeights(replace(model, tensors=tensors))
    assert ("a" in lazy, "d" in lazy, len(lazy)) == (True, False, 3)
    for place, name in enumerate(lazy):
        assert lazy[name].tolist() == [place, place]
        assert len(released) == place


def test_the_error_for_an_incomplete_file_names_the_model() -> None:
    listed = uncond()
    del listed["blocks.1.mlp.fc1.bias"]
    with pytest.raises(LatteError, match=r": is not a complete Latte checkpoint: missing blocks\.1\.mlp"):
        mapped(listed)


def test_tensors_that_are_not_floats_are_named_with_the_type_of_the_first() -> None:
    dtypes = {"blocks.0.mlp.fc1.bias": "int64", "blocks.1.mlp.fc1.bias": "int32"}
    words = r"blocks\.0\.mlp\.fc1\.bias, blocks\.1\.mlp\.fc1\.bias: found int64, expected floats$"
    with pytest.raises(LatteError, match=words):
        mapped(uncond(), **dtypes)
