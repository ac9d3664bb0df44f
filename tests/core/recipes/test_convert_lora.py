"""`latte convert` on low-rank adapters: to peft's folder and back, and merged into weights or a pipeline."""

import json
from pathlib import Path

import numpy as np
import pytest

from latte_cli.core.checkpoints.lora import LoraUse, load_lora
from latte_cli.core.checkpoints.open import open_weights
from latte_cli.core.errors import LatteError
from latte_cli.core.models.pipeline.folder import open_pipeline
from latte_cli.core.recipes.convert import describe, run

GOLDEN = Path(__file__).parents[2] / "golden"
PEFT, PIPELINE = GOLDEN / "lora", GOLDEN / "t2v" / "pipeline"
NAME = "transformer_blocks.1.attn2.to_q.weight"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)


def merged_weight(strength: float) -> np.ndarray:
    """The recorded projection with its adapter at a strength, by the formula in float64."""
    lora = load_lora(PEFT)
    a, b = (half.astype(np.float64) for half in lora.factors[NAME.removesuffix(".weight")])
    start = open_weights(PIPELINE / "transformer").read(NAME).astype(np.float64)
    return start + strength * 5 / 3 * (b @ a)


def test_adapters_are_converted_to_a_folder_for_peft_and_back() -> None:
    there = run(PEFT, Path("ours.safetensors"))
    assert describe(there) == "low-rank adapters of 12 projections: rank 2, 3, 1,200 parameters"
    back = run(Path("ours.safetensors"), to="torch", report=Path("report.json"))
    assert back.target == "ours"
    assert {path.name for path in Path("ours").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    for found in (load_lora(Path("ours.safetensors")), load_lora(Path("ours"))):
        assert found.alphas == load_lora(PEFT).alphas
        for name, pair in load_lora(PEFT).factors.items():
            for mine, theirs in zip(found.factors[name], pair, strict=True):
                np.testing.assert_array_equal(mine, theirs)
    assert json.loads(Path("report.json").read_text())["kind"] == "lora"


def test_an_existing_target_is_kept_without_force() -> None:
    Path("ours").mkdir()
    run(PEFT, Path("ours.safetensors"))
    with pytest.raises(LatteError, match=r"^ours: already exists; use --force to replace it$"):
        run(Path("ours.safetensors"), to="torch")
    assert not list(Path("ours").iterdir())
    run(Path("ours.safetensors"), to="torch", force=True)
    assert (Path("ours") / "adapter_config.json").is_file()


def test_a_pipeline_with_merged_adapters_is_complete() -> None:
    uses = [LoraUse(path=PEFT, strength=0.5), LoraUse(path=PEFT, strength=0.25)]
    report = run(PIPELINE, Path("merged"), lora=uses)
    assert report.lora == [f"{PEFT}:0.5", f"{PEFT}:0.25"]
    pipeline = open_pipeline(Path("merged"))
    weights, start = open_weights(pipeline.transformer), open_weights(PIPELINE / "transformer")
    np.testing.assert_allclose(weights.read(NAME), merged_weight(0.75), rtol=0, atol=2e-7)
    unchanged = "transformer_blocks.1.attn2.to_q.bias"
    np.testing.assert_array_equal(weights.read(unchanged), start.read(unchanged))
    assert {name: weights.dtype(name) for name in weights.names} == {
        name: start.dtype(name) for name in start.names
    }


def test_adapters_are_merged_into_a_file_of_weights_and_rounded_once() -> None:
    source = GOLDEN / "t2v" / "transformer_state_dict.pt"
    run(source, Path("merged.safetensors"), lora=[LoraUse(path=PEFT)], dtype="float16")
    found = open_weights(Path("merged.safetensors")).read(NAME)
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, merged_weight(1.0).astype(np.float32).astype(np.float16))


def test_missing_adapters_and_those_of_another_model_are_rejected_and_nothing_is_written() -> None:
    latte = GOLDEN / "latte" / "class" / "ckpt_train.pt"
    with pytest.raises(LatteError, match="expected a projection of the transformer"):
        run(latte, Path("merged.ckpt"), lora=[LoraUse(path=PEFT)])
    with pytest.raises(LatteError, match=r"^--lora: nowhere: no such file$"):
        run(PIPELINE, Path("merged"), lora=[LoraUse(path=Path("nowhere"))])
    with pytest.raises(LatteError, match="--target: not given"):
        run(PIPELINE, lora=[LoraUse(path=PEFT)])
    assert not list(Path().iterdir())
