"""Prompts of 17 to 120 tokens in `latte sample --pipeline`, compared with diffusers' pipeline."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from latte_cli.cli.app import app
from tests.peers import golden_cases as cases

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[2] / "golden"
RECORDED = dict(np.load(GOLDEN / "sizes" / "pipeline.npz"))


def test_final_latents_match_the_pipeline(tmp_path: Path) -> None:
    noise = [cases.normal(tokens, (2, 4, 8, 8)) for tokens in cases.PROMPT_LENGTHS]
    np.save(tmp_path / "noise.npy", np.stack(noise))
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(map(cases.prompt, cases.PROMPT_LENGTHS)))
    options = {
        "--pipeline": GOLDEN / "t2v" / "pipeline",
        "--prompts-file": prompts,
        "--negative-prompt": cases.prompt(cases.NEGATIVE_LENGTH),
        "--initial-latents": tmp_path / "noise.npy",
        "--steps": cases.PROMPT_STEPS,
        "--guidance-scale": cases.PROMPT_GUIDANCE,
        "--format": "latents",
        "--out": tmp_path / "out",
        "--device": "cpu",
    }
    words = [str(word) for option in options.items() for word in option]
    result = CliRunner().invoke(app, ["sample", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    paths = sorted((tmp_path / "out").glob("*.npy"))
    for path, tokens in zip(paths, cases.PROMPT_LENGTHS, strict=True):
        expected = RECORDED[f"prompt-{tokens}/latents"][-1]
        difference = np.load(path).reshape(expected.shape) - expected
        assert np.abs(difference).max() <= 5e-5 * np.abs(expected).max(), tokens
