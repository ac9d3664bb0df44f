"""Token ids and states of prompts, compared with transformers' T5 (tests/golden/t2v) and CLIP's formulas."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from latte_cli.core.errors import LatteError
from latte_cli.core.models.text.encoder import (
    TextEncoder,
    Tokenizer,
    condition_of,
    encoder_digest,
    pipeline_states,
)
from latte_cli.core.models.text.folder import find_text_encoder
from latte_cli.core.models.text.pieces import open_pieces
from tests.core.models.text.small_clip import save_clip

pytestmark = pytest.mark.plain

GOLDEN = Path(__file__).parents[3] / "golden" / "t2v"
PIPELINE = GOLDEN / "pipeline"
CALL = json.loads((GOLDEN / "pipeline_call.json").read_text())
RECORDED = np.load(GOLDEN / "pipeline_golden.npz")


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(find_text_encoder(PIPELINE))


def test_token_ids_match_transformers(encoder: TextEncoder) -> None:
    for text, ids in json.loads((GOLDEN / "tokens.json").read_text()).items():
        assert encoder.tokenize.ids(text) == ids, text


@pytest.mark.parametrize("text", ["a </s> b", "<unk>", "x<pad> y", "a dog, 1970\u2581\u6f22!"])
def test_token_ids_of_special_tokens_and_unusual_letters_match_transformers(
    encoder: TextEncoder, text: str
) -> None:
    from transformers import T5Tokenizer

    whole = T5Tokenizer.from_pretrained(str(PIPELINE / "tokenizer"), local_files_only=True)
    assert encoder.tokenize.ids(text) == whole(text, verbose=False).input_ids


@pytest.mark.parametrize("change", [{"legacy": False}, {"eos_token": "[end]"}, {"sp_model_kwargs": {"a": 1}}])
def test_other_tokenizer_settings_are_handled_by_transformers(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = shutil.copytree(PIPELINE / "tokenizer", tmp_path / "tokenizer")
    assert open_pieces(folder) is not None
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert open_pieces(folder) is None


def test_prompts_are_padded_to_the_length_of_the_pipeline(encoder: TextEncoder) -> None:
    for row, text in enumerate((CALL["prompt"], CALL["negative_prompt"])):
        tokens = encoder.tokenize(text)
        np.testing.assert_array_equal(tokens.ids, RECORDED["input_ids"][row])
        assert tokens.number == RECORDED["attention_mask"][row].sum()


def test_states_match_transformers(encoder: TextEncoder) -> None:
    text = encoder.encode(CALL["prompt"])
    np.testing.assert_allclose(text.states[: text.tokens], RECORDED["text_hidden_valid"], rtol=0, atol=1e-4)


def test_both_prompts_are_truncated_to_the_length_of_the_prompt_as_in_the_pipeline(
    encoder: TextEncoder,
) -> None:
    conditional, unconditional = pipeline_states(
        encoder.encode(CALL["prompt"]), encoder.encode(CALL["negative_prompt"])
    )
    kept = conditional[:, -1] == 1
    assert kept.sum() == RECORDED["prompt_embeds"].shape[1]
    np.testing.assert_array_equal(conditional[:, -1], unconditional[:, -1])
    np.testing.assert_allclose(conditional[kept, :-1], RECORDED["prompt_embeds"][0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(
        unconditional[kept, :-1], RECORDED["negative_prompt_embeds"][0], rtol=0, atol=1e-4
    )


def test_a_text_for_training_masks_its_own_padding(encoder: TextEncoder) -> None:
    packed = condition_of(encoder.encode(""), encoder.folder)
    np.testing.assert_array_equal(packed[:, -1], [1] + [0] * 119)


def test_the_states_of_a_text_do_not_depend_on_other_texts(encoder: TextEncoder) -> None:
    texts = [f"{number} cats" for number in range(20)]  # more than one group
    together = list(encoder.encode_all(texts))
    for text, states in zip(texts[::7], together[::7], strict=True):
        np.testing.assert_array_equal(encoder.encode(text).states, states.states)


def test_a_cpu_computes_in_float32_for_any_requested_type(encoder: TextEncoder) -> None:
    half = TextEncoder(encoder.folder, dtype="bfloat16").encode(CALL["prompt"])
    np.testing.assert_array_equal(half.states, encoder.encode(CALL["prompt"]).states)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 1), ("  \n ", 1), ("a", 2), ("a cat \U0001f431", 7), ('"quoted" [bold] text', 19), ("日本", 1)],
)
def test_unusual_prompts_are_encoded(encoder: TextEncoder, text: str, tokens: int) -> None:
    encoded = encoder.encode(text)
    assert encoded.tokens == tokens
    assert np.isfinite(encoded.states).all()


def test_a_long_prompt_is_truncated_with_a_warning(
    encoder: TextEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        encoded = encoder.encode("a " * 299)
    assert encoded.tokens == 120
    assert caplog.messages == [f"'{'a ' * 28}a...': found 300 tokens, kept 120; left out: '{'a ' * 28}a...'"]


def test_a_prompt_that_is_not_unicode_is_rejected(encoder: TextEncoder) -> None:
    with pytest.raises(LatteError, match="is not valid UTF-8"):
        encoder.encode("caf\udce9")


def broken(tmp_path: Path, change: Callable[[Path], Any]) -> Path:
    """A copy of the pipeline with a change."""
    folder = tmp_path / "pipeline"
    shutil.copytree(PIPELINE, folder)
    change(folder)
    return folder


def drop_a_weight(folder: Path) -> None:
    path = folder / "text_encoder" / "model.safetensors"
    arrays = load_file(path)
    del arrays["encoder.block.1.layer.0.SelfAttention.o.weight"]
    save_file(arrays, path, metadata={"format": "pt"})


def change_config(**fields: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        path = folder / "text_encoder" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            change_config(num_layers=0),
            "text_encoder/config.json: num_layers: found 0, expected more than 0",
        ),
        (
            change_config(feed_forward_proj="gated-tanh"),
            "text_encoder/config.json: found the activation tanh, expected one of relu, gelu, gelu_new,",
        ),
        (
            change_config(d_ff=25),
            "text_encoder/model.safetensors: encoder.block.0.layer.1.DenseReluDense.wi_0.weight: found shape"
            " (24, 16), expected (25, 16) by config.json",
        ),
        (
            lambda folder: (folder / "tokenizer" / "spiece.model").write_bytes(b"junk"),
            "tokenizer/spiece.model: is not a sentencepiece model",
        ),
        (
            lambda folder: (folder / "tokenizer" / "tokenizer_config.json").write_text("{"),
            "tokenizer: cannot be read as a tokenizer: Expecting property name",
        ),
        (
            lambda folder: (folder / "text_encoder" / "model.safetensors").write_bytes(b"junk"),
            "text_encoder/model.safetensors: is not a known weights format",
        ),
        (
            drop_a_weight,
            "text_encoder/model.safetensors: encoder.block.1.layer.0.SelfAttention.o.weight is missing",
        ),
    ],
)
def test_a_damaged_encoder_gives_a_one_line_error(tmp_path: Path, change: Any, message: str) -> None:
    folder = broken(tmp_path, change)
    with pytest.raises(LatteError) as refusal:
        TextEncoder(find_text_encoder(folder))
    assert str(refusal.value).startswith(f"{folder}/{message}")
    assert "\n" not in str(refusal.value)


def test_different_encoders_have_different_digests(tmp_path: Path) -> None:
    copy = broken(tmp_path, drop_a_weight)
    first, again, other = (encoder_digest(find_text_encoder(path)) for path in (PIPELINE, PIPELINE, copy))
    assert first == again != other


WIDTH, HEADS, LAYERS = 16, 2, 2


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"), width=WIDTH, heads=HEADS, layers=LAYERS)


def clip_states(weights: dict[str, NDArray[np.float64]], ids: NDArray[np.int32]) -> NDArray[np.float64]:
    """CLIP's text transformer (Radford et al. 2021): pre-norm, causal, with the sigmoid GELU."""

    def linear(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        centred = x - x.mean(-1, keepdims=True)
        normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return normal * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def heads(name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return linear(name, x).reshape(len(ids), HEADS, -1).swapaxes(0, 1)

    x = weights["embeddings.token_embedding.weight"][ids] + weights["embeddings.position_embedding.weight"]
    future = np.where(np.tri(len(ids)) > 0, 0.0, -np.inf)
    for place in range(LAYERS):
        layer = f"encoder.layers.{place}"
        y = norm(f"{layer}.layer_norm1", x)
        query, key, value = (heads(f"{layer}.self_attn.{letter}_proj", y) for letter in "qkv")
        scores = np.exp(query @ key.swapaxes(1, 2) / np.sqrt(WIDTH / HEADS) + future)
        mixed = (scores / scores.sum(-1, keepdims=True)) @ value
        x = x + linear(f"{layer}.self_attn.out_proj", mixed.swapaxes(0, 1).reshape(x.shape))
        y = linear(f"{layer}.mlp.fc1", norm(f"{layer}.layer_norm2", x))
        x = x + linear(f"{layer}.mlp.fc2", y / (1 + np.exp(-1.702 * y)))
    return norm("final_layer_norm", x)


def test_clip_tokens_are_framed_and_padded_with_the_end(clip: Path) -> None:
    tokens = Tokenizer(find_text_encoder(clip))("A cat")
    np.testing.assert_array_equal(tokens.ids, [54, 26, 53] + [55] * 74)
    assert tokens.number == 4


def test_clip_states_match_the_formulas(clip: Path) -> None:
    encoder = TextEncoder(find_text_encoder(clip))
    arrays = load_file(clip / "model.safetensors")
    weights = {name.removeprefix("text_model."): array.astype(np.float64) for name, array in arrays.items()}
    expected = clip_states(weights, encoder.tokenize("a cat on x").ids)
    np.testing.assert_allclose(encoder.encode("a cat on x").states, expected, rtol=0, atol=1e-5)
