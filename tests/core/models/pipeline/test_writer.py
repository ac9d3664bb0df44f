"""A transformer's weights combined with the other parts of a pipeline into a folder for sampling."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

from latte_cli.cli import app as cli
from latte_cli.core.models.pipeline.writer import LATTE_1, write_json

GOLDEN = Path(__file__).parents[3] / "golden" / "t2v"
WEIGHTS = GOLDEN / "transformer_state_dict.pt"
WRITTEN = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the recorded pipeline without its transformer's weights."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(GOLDEN / "pipeline", "parts")
    Path("parts", WRITTEN).unlink()
    return tmp_path


def latte(line: str) -> Result:
    return CliRunner().invoke(cli.app, line.split(), catch_exceptions=False)


def convert(flags: str = "", *, parts: str = "parts", target: str = "models/tiny") -> Result:
    return latte(f"convert --source {WEIGHTS} --pipeline-from {parts} --target {target} {flags}")


@pytest.mark.slow
def test_a_pipeline_of_the_original_weights_samples_like_the_recorded_one() -> None:
    result = convert("--kind t2v --report report.json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith("wrote       models/tiny\n")
    assert json.loads(Path("report.json").read_text())["target"] == "models/tiny"
    recorded = load_file(GOLDEN / "pipeline" / WRITTEN)
    written = load_file(Path("models/tiny", WRITTEN))
    assert written.keys() == recorded.keys()
    for name, values in recorded.items():
        np.testing.assert_array_equal(written[name], values)
    config = json.loads(Path("models/tiny/transformer/config.json").read_text())
    expected = json.loads((GOLDEN / "pipeline" / "transformer" / "config.json").read_text())
    del expected["_diffusers_version"]
    assert config == expected

    call = json.loads((GOLDEN / "pipeline_call.json").read_text())
    golden = np.load(GOLDEN / "pipeline_golden.npz")
    np.save("noise.npy", golden["latents"].swapaxes(1, 2))
    Path("prompt.txt").write_text(f"{call['prompt']} --steps 5 --guidance-scale 5\n")
    flags = "--pipeline models/tiny --device cpu --prompts-file prompt.txt --format latents --out out"
    more = ["--initial-latents", "noise.npy", "--negative-prompt", call["negative_prompt"]]
    sampled = CliRunner().invoke(cli.app, ["sample", *flags.split(), *more], catch_exceptions=False)
    assert sampled.exit_code == 0, sampled.stderr
    final = golden["final_latents"][0].swapaxes(0, 1)
    found = np.load(next(Path("out").glob("*.npy")))
    np.testing.assert_allclose(found, final, rtol=0, atol=1e-3 * np.abs(final).max())


def test_parts_are_linked_and_missing_small_files_are_those_of_latte_1() -> None:
    Path("parts/model_index.json").unlink()
    shutil.rmtree("parts/scheduler")
    assert convert("--dtype float16").exit_code == 0
    encoder = "text_encoder/model.safetensors"
    assert Path("models/tiny", encoder).samefile(Path("parts", encoder))
    assert {str(values.dtype) for values in load_file(Path("models/tiny", WRITTEN)).values()} == {"float16"}
    expected = json.loads((GOLDEN / "pipeline/scheduler/scheduler_config.json").read_text())
    written = json.loads(Path("models/tiny/scheduler/scheduler_config.json").read_text())
    assert written.items() <= expected.items()
    index = json.loads(Path("models/tiny/model_index.json").read_text())
    recorded = json.loads((GOLDEN / "pipeline/model_index.json").read_text())
    assert index == {name: value for name, value in recorded.items() if name != "_diffusers_version"}


def test_default_sizes_are_those_of_latte_1() -> None:
    known = json.loads((GOLDEN.parent / "keys" / "LatteTransformer3DModel_Latte-1.json").read_text())
    expected = {name: value for name, value in known["config"].items() if not name.startswith("_")}
    config = LATTE_1.to_config()
    assert {name: config[name] for name in expected} == expected
    assert LATTE_1.parameters() == known["num_params"]


def test_an_existing_folder_is_replaced_only_with_force() -> None:
    Path("models/tiny").mkdir(parents=True)
    Path("models/tiny/mine.txt").write_text("mine")
    assert convert().stderr == "models/tiny: already exists; use --force to replace it\n"
    assert [path.name for path in Path("models").rglob("*.txt")] == ["mine.txt"]
    assert convert("--force").exit_code == 0
    assert [path.name for path in Path("models").iterdir()] == ["tiny"]
    assert not Path("models/tiny/mine.txt").exists()


def test_a_folder_with_the_sources_of_the_pipeline_is_never_replaced() -> None:
    Path("models").mkdir()
    shutil.move("parts", "models/parts")
    shutil.copyfile(WEIGHTS, "models/t2v.pt")
    result = convert("--force", parts="models/parts", target="models")
    assert (result.exit_code, result.stderr) == (
        1,
        "models: contains models/parts; give another --target\n",
    )
    shutil.move("models/parts", "parts")
    flags = "--source models/t2v.pt --pipeline-from parts --target models --force"
    assert latte(f"convert {flags}").stderr == ("models: contains models/t2v.pt; give another --target\n")
    assert Path("models/t2v.pt").is_file()


def test_a_dry_run_writes_nothing() -> None:
    result = convert("--dry-run")
    assert result.exit_code == 0
    assert "would write models/tiny\nmemory      about 60 MB\n" in result.stdout
    assert not Path("models").exists()


@pytest.mark.parametrize(
    ("spoil", "flags", "error"),
    [
        (lambda: None, "--kind vae", "--kind: found vae, expected t2v with --pipeline-from"),
        (
            lambda: shutil.rmtree("parts/vae"),
            "",
            "--pipeline-from: parts/vae: no such folder",
        ),
        (
            lambda: Path("parts/tokenizer/spiece.model").unlink(),
            "",
            "parts/tokenizer/spiece.model: no such file; required by the t5 tokenizer",
        ),
        (
            lambda: Path("parts/text_encoder/model.safetensors").unlink(),
            "",
            "parts/text_encoder: a folder without weights; expected"
            " diffusion_pytorch_model.safetensors or similar",
        ),
        (
            lambda: write_json(Path("parts/vae/config.json"), {"block_out_channels": [4, 4, 4]}),
            "",
            "models/tiny/vae/config.json: found a downsampling factor of 4, expected 8",
        ),
        (
            lambda: Path("parts/transformer/config.json").unlink(),
            "",
            f"{WEIGHTS}: hidden_size: found 24, expected Latte-1's, 1152: the number of heads is"
            " read from transformer/config.json in --pipeline-from",
        ),
        (
            lambda: Path("parts/model_index.json").write_text('{"_class_name": "FluxPipeline"}'),
            "",
            'parts/model_index.json: found "FluxPipeline", expected LattePipeline',
        ),
    ],
)
def test_invalid_parts_give_a_one_line_error_and_no_folder(
    spoil: Callable[[], object], flags: str, error: str
) -> None:
    spoil()
    result = convert(flags)
    assert (result.exit_code, result.stderr, result.stdout) == (1, f"{error}\n", "")
    assert not [path for path in Path("models").rglob("*") if path.is_file()]
    assert not Path("models/tiny").exists()
