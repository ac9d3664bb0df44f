"""Files of low-rank adapters, in peft's and diffusers' names, and adapters added to weights."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from latte_cli.core.checkpoints.adapters import Adapter, WithAdapters, merged
from latte_cli.core.checkpoints.lora import Lora, load_lora, parse_use, save_lora, save_peft
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.errors import LatteError

GOLDEN = Path(__file__).parents[2] / "golden"
PEFT = GOLDEN / "lora"
TRANSFORMER = GOLDEN / "t2v" / "pipeline" / "transformer"
NAME = "transformer_blocks.1.attn2.to_q"


def small(**alphas: float) -> Lora:
    """Adapters of two projections, of ranks 2 and 3."""
    draw = np.random.default_rng(0)
    ranks = {"a.to_q": 2, "a.to_out.0": 3}
    factors = {
        name: (
            draw.standard_normal((rank, 4)).astype(np.float32),
            draw.standard_normal((6, rank)).astype(np.float32),
        )
        for name, rank in ranks.items()
    }
    return Lora(factors, {name: alphas.get(name[2:4], 1.0) for name in factors})


def equal(one: Lora, other: Lora) -> None:
    assert one.alphas == other.alphas
    assert one.factors.keys() == other.factors.keys()
    for name, pair in one.factors.items():
        for mine, theirs in zip(pair, other.factors[name], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def saved(
    folder: Path, lora: Lora, *, prefix: str, extra: dict[str, float] | None = None, **metadata: str
) -> Path:
    """A file of adapters with names as another program writes them."""
    arrays = {
        f"{prefix}{name}.lora_{letter}.weight": half
        for name, pair in lora.factors.items()
        for letter, half in zip("AB", pair, strict=True)
    }
    arrays |= {name: np.array(alpha, np.float32) for name, alpha in (extra or {}).items()}
    save_file(arrays, folder / "lora.safetensors", metadata or None)
    return folder / "lora.safetensors"


def test_merged_adapters_match_peft() -> None:
    lora, weights = load_lora(PEFT), open_weights(TRANSFORMER)
    assert lora.alphas[NAME] == 5
    assert len(lora.factors[NAME][0]) == 3
    assert {alpha for name, alpha in lora.alphas.items() if name != NAME} == {3}
    recorded = np.load(PEFT / "golden.npz")
    tensors = merged(weights.tensors, [Adapter(lora, 1.0, "peft")])
    compared = [name for name in recorded if name.endswith(".weight")]
    assert compared
    for name in compared:
        np.testing.assert_allclose(tensors[name].bits(), recorded[name], rtol=0, atol=2e-7)
    changed = {f"{name}.weight" for name in lora.factors}
    for name in weights.names:
        assert (tensors[name] is weights.tensors[name]) == (name not in changed)


def test_the_change_matches_the_formula_in_float64_rounded_once() -> None:
    one, other = small(to=2.0), small(to=-1.0)
    start = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    weights = {"a.to_q.weight": start, "a.to_out.0.weight": start, "b.weight": start}
    found = WithAdapters(weights, [Adapter(one, 0.5, "one"), Adapter(other, -2.0, "other")])
    for name, rank in (("a.to_q", 2), ("a.to_out.0", 3)):
        a, b = (half.astype(np.float64) for half in one.factors[name])
        wanted = start.astype(np.float64) + (0.5 * 2.0 / rank + -2.0 * -1.0 / rank) * (b @ a)
        np.testing.assert_allclose(found[f"{name}.weight"], wanted, rtol=0, atol=2.4e-7)
    assert found["b.weight"] is start
    assert list(found) == list(weights)


def test_merged_weights_keep_their_type() -> None:
    lora = load_lora(PEFT)
    tensors = open_weights(TRANSFORMER).tensors
    halves = merged(tensors, [Adapter(lora, 1.0, "peft")])
    assert {halves[name].dtype for name in halves} == {tensors[name].dtype for name in tensors}


@pytest.mark.parametrize("prefix", ["", "transformer.", "base_model.model.", "base_model.model.transformer."])
def test_every_prefix_is_read(prefix: str, tmp_path: Path) -> None:
    lora = small(to=2.0)
    equal(load_lora(saved(tmp_path, lora, prefix=prefix, alpha="2.0")), lora)


def test_alphas_in_the_file_override_the_configuration(tmp_path: Path) -> None:
    lora = small()
    extra = {f"transformer.{name}.alpha": 4.0 for name in lora.factors}
    path = saved(tmp_path, lora, prefix="transformer.", extra=extra, alpha="9")
    assert set(load_lora(path).alphas.values()) == {4.0}


def test_the_default_alpha_is_the_rank(tmp_path: Path) -> None:
    assert load_lora(saved(tmp_path, small(), prefix="")).alphas == {"a.to_q": 2.0, "a.to_out.0": 3.0}


def test_the_configuration_in_a_file_of_diffusers_is_used(tmp_path: Path) -> None:
    config = json.dumps(
        {"transformer.r": 2, "transformer.lora_alpha": 8, "transformer.alpha_pattern": {"to_q": 6}}
    )
    path = saved(tmp_path, small(), prefix="transformer.", lora_adapter_metadata=config)
    assert load_lora(path).alphas == {"a.to_q": 6.0, "a.to_out.0": 8.0}


def test_rank_stabilised_adapters_are_scaled_by_the_root_of_the_rank(tmp_path: Path) -> None:
    save_peft(tmp_path, small(to=8.0))
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_rslora": True}))
    lora = load_lora(tmp_path)  # Kalajdzievski 2023: alpha / sqrt(rank)
    for name, (a, b) in lora.factors.items():
        wanted = 8.0 / np.sqrt(len(a)) * (b.astype(np.float64) @ a.astype(np.float64))
        np.testing.assert_allclose(lora.change(name), wanted, rtol=1e-12)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "LOHA"}, "peft_type"),
        ({"bias": "all"}, "bias"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"lora_alpha": "x"}, "lora_alpha"),
    ],
)
def test_adapters_of_other_methods_are_rejected(
    setting: dict[str, object], words: str, tmp_path: Path
) -> None:
    save_peft(tmp_path, small())
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | setting))
    with pytest.raises(LatteError) as refusal:
        load_lora(tmp_path)
    assert str(refusal.value).startswith(f"{config}: {words}")


@pytest.mark.parametrize("alphas", [{"to": 2.0}, {}])
def test_written_adapters_are_read_back(alphas: dict[str, float], tmp_path: Path) -> None:
    lora = small(**alphas)
    save_lora(tmp_path / "ours.safetensors", lora)
    equal(load_lora(tmp_path / "ours.safetensors"), lora)
    save_peft(tmp_path, lora)
    (tmp_path / "ours.safetensors").unlink()
    equal(load_lora(tmp_path), lora)


def test_the_names_in_a_folder_for_peft_match_those_of_peft(tmp_path: Path) -> None:
    save_peft(tmp_path, load_lora(PEFT))
    assert (
        load_file(tmp_path / "adapter_model.safetensors").keys()
        == load_file(PEFT / "adapter_model.safetensors").keys()
    )
    ours, theirs = (json.loads((folder / "adapter_config.json").read_text()) for folder in (tmp_path, PEFT))
    assert ours.keys() <= theirs.keys()
    equal(load_lora(tmp_path), load_lora(PEFT))


def test_the_error_for_adapters_of_another_model_names_the_file_and_shape(tmp_path: Path) -> None:
    weights = {
        "a.to_q.weight": np.zeros((6, 5), np.float32),
        "a.to_out.0.weight": np.zeros((6, 4), np.float32),
    }
    with pytest.raises(LatteError, match=r"^x: a\.to_q: found \(6, 4\), expected \(6, 5\)$"):
        WithAdapters(weights, [Adapter(small(), 1.0, "x")])


def test_an_alpha_without_adapters_is_rejected(tmp_path: Path) -> None:
    path = saved(tmp_path, small(), prefix="", extra={"c.alpha": 1.0})
    with pytest.raises(LatteError, match=r"found c\.alpha, but no low-rank adapter of that name"):
        load_lora(path)


@pytest.mark.parametrize(
    ("text", "path", "strength"),
    [
        ("a.safetensors", "a.safetensors", 1.0),
        ("a.safetensors:0.5", "a.safetensors", 0.5),
        ("a:-1e-1", "a", -0.1),
        ("C:x.safetensors", "C:x.safetensors", 1.0),
        ("12:30.safetensors:.25", "12:30.safetensors", 0.25),
        ("a:2:1", "a:2", 1.0),
        ("hf://me/mine/a.safetensors@v1:0.7", "hf:/me/mine/a.safetensors@v1", 0.7),
        ("hf://me/mine", "hf:/me/mine", 1.0),
        ("a:nan", "a:nan", 1.0),
    ],
)
def test_a_number_after_the_last_colon_is_the_strength(text: str, path: str, strength: float) -> None:
    use = parse_use(text)
    assert (str(use.path), use.strength) == (path, strength)


@pytest.mark.parametrize("text", ["", ":0.5", "a:1e999"])
def test_an_infinite_strength_or_one_without_a_file_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected FILE\[:STRENGTH\]"):
        parse_use(text)


def test_a_folder_copied_elsewhere_keeps_its_scale(tmp_path: Path) -> None:
    shutil.copytree(PEFT, tmp_path / "copy")
    equal(load_lora(tmp_path / "copy" / "adapter_model.safetensors"), load_lora(PEFT))
