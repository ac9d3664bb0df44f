"""Texts of 17 to 300 tokens, and encoders of real widths, compared with transformers (tests/golden/sizes)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from latte_cli.core.models.text.clip import ClipConfig
from latte_cli.core.models.text.config import parse_config
from latte_cli.core.models.text.encoder import TextEncoder, operators_for
from latte_cli.core.models.text.folder import TextFolder, find_text_encoder
from latte_cli.core.models.text.t5 import ALIASES, T5Config, t5_states
from latte_cli.core.models.text.tokens import Tokens
from latte_cli.core.models.text.weights import StreamedWeights
from tests.core.models.text.small_clip import save_clip
from tests.peers import golden_cases as cases

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[3] / "golden"
PIPELINE = GOLDEN / "t2v" / "pipeline"
RECORDED = dict(np.load(GOLDEN / "sizes" / "text.npz"))
MAX_TOKENS = 120


def write(folder: Path, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A folder of an encoder whose tensors are drawn from their names."""
    (folder / "config.json").write_text(json.dumps(config))
    values = {name: cases.weights(name, shape) for name, shape in shapes.items()}
    save_file(values, folder / "model.safetensors", metadata={"format": "pt"})


def check_lengths(folder: TextFolder, name: str) -> None:
    """Every length, as the pipeline encodes it."""
    encoder = TextEncoder(folder)
    texts = [cases.prompt(tokens) for tokens in cases.TEXT_LENGTHS]
    for tokens, text in zip(cases.TEXT_LENGTHS, encoder.encode_all(texts), strict=True):
        assert text.tokens == min(tokens, MAX_TOKENS)
        case = f"{name}-{tokens}" + ("-cut" if tokens > MAX_TOKENS else "")
        assert cases.error(text.states[: text.tokens], RECORDED, case) <= 1e-5, case


def test_states_of_texts_of_every_length_match_transformers() -> None:
    check_lengths(find_text_encoder(PIPELINE), "t5")


@pytest.mark.parametrize("tokens", cases.TEXT_LENGTHS)
def test_states_of_texts_without_truncation_match_transformers(tokens: int) -> None:
    folder = find_text_encoder(PIPELINE)
    config = parse_config(
        T5Config, json.loads((folder.encoder / "config.json").read_text()), source="config.json"
    )
    weights = StreamedWeights(folder.encoder, config.shapes(), ALIASES)
    tokenize = TextEncoder(folder).tokenize
    ids = np.array([tokenize.ids(cases.prompt(tokens))], np.int32)
    states = t5_states(config, weights, operators_for("float32"), ids, np.ones(ids.shape, np.bool_))
    assert cases.error(states[0], RECORDED, f"t5-{tokens}") <= 1e-5


@pytest.mark.slow
def test_states_of_a_layer_of_t5_xxl_width_match_transformers(tmp_path: Path) -> None:
    config = parse_config(T5Config, cases.T5_WIDE, source="config.json")
    write(tmp_path, cases.T5_WIDE, config.shapes())
    check_lengths(TextFolder("t5", tmp_path, PIPELINE / "tokenizer", 4096), "t5-wide")
    (tmp_path / "model.safetensors").unlink()


@pytest.mark.plain
def test_states_of_clip_of_stable_diffusion_width_match_transformers(tmp_path: Path) -> None:
    save_clip(tmp_path, width=16, heads=2, layers=1)
    config = parse_config(ClipConfig, cases.CLIP_WIDE, source="config.json")
    write(tmp_path, cases.CLIP_WIDE, config.shapes())
    encoder = TextEncoder(TextFolder("clip", tmp_path, tmp_path, 768))
    assert encoder.tokenize("a cat").ids.tolist() == cases.CLIP_IDS["short"]
    for name, row in cases.CLIP_IDS.items():
        states = encoder._states([Tokens(np.array(row, np.int32), len(row))])
        assert cases.error(states[0], RECORDED, f"clip-{name}") <= 1e-5, name
