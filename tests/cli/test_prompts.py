"""`latte sample` from prompts with a pipeline: clips match diffusers, and errors are one line."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

from latte_cli.cli import app as cli
from latte_cli.core.models.pipeline.folder import open_pipeline
from latte_cli.core.models.text.memory import encoding_memory
from latte_cli.core.planning.units import bytes_of
from latte_cli.core.sampling import from_pipeline

GOLDEN = Path(__file__).parents[1] / "golden" / "t2v"
PIPELINE = GOLDEN / "pipeline"
CALL = json.loads((GOLDEN / "pipeline_call.json").read_text())
RECORDED = dict(np.load(GOLDEN / "pipeline_golden.npz"))
runner = CliRunner()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def latte(*arguments: str | Path) -> Result:
    """Sample on the CPU; errors other than LatteError are raised."""
    line = ["sample", "--device", "cpu", *map(str, arguments)]
    return runner.invoke(cli.app, line, catch_exceptions=False)


def drawn(*arguments: str | Path, pipeline: Path = PIPELINE) -> list[str]:
    """The names of the files that a command wrote."""
    result = latte("--pipeline", pipeline, *arguments)
    assert result.exit_code == 0, result.stderr
    return [Path(line).name for line in result.stdout.splitlines()]


def contents(target: str, pattern: str = "*") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(target).glob(pattern) if path.is_file()}


def latents(name: str) -> NDArray[Any]:
    """Recorded latents (1, 4, F, h, w) as (1, F, 4, h, w)."""
    return np.asarray(RECORDED[name].swapaxes(1, 2))


@pytest.mark.slow
@pytest.mark.parametrize(("guidance", "recorded"), [("5", "final_latents"), ("1", "final_latents_guidance1")])
def test_the_final_latents_match_the_recorded_call_of_diffusers(guidance: str, recorded: str) -> None:
    np.save("noise.npy", latents("latents"))
    flags = ["--prompt", CALL["prompt"], "--negative-prompt", CALL["negative_prompt"], "--steps", "5"]
    flags += ["--initial-latents", "noise.npy", "--guidance-scale", guidance]
    assert drawn(*flags, "--format", "latents", "--format", "png", "--out", "out")[0].endswith(".npy")
    found = np.load(next(Path("out").glob("*.npy")))
    expected = latents(recorded)[0]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
    if recorded == "final_latents":
        video = RECORDED["video_pt_BFCHW_0_1"][0].transpose(0, 2, 3, 1)
        sheet = np.asarray(Image.open(next(Path("out").glob("0*.png")))) / 255
        frames = np.stack([sheet[:, :64], sheet[:, 66:]])
        np.testing.assert_allclose(frames, video, rtol=0, atol=1e-3 + 0.5 / 255)


@pytest.mark.slow
def test_each_sample_has_its_own_seed_and_is_replayed_with_the_same_bytes() -> None:
    flags = ("--prompt", "Sunset", "--num-samples", "3", "--seed", "5", "--steps", "2", "--format", "mp4")
    names = drawn(*flags, "--format", "latents", "--sampler", "ddim", "--eta", "0.5", "--dtype", "float16")
    clips = [f"00{place}-seed{place + 5}-sunset" for place in range(3)]
    assert names == [f"{clip}.{suffix}" for clip in clips for suffix in ("mp4", "npy", "json")] + [
        "grid.png",
        "grid.mp4",
    ]
    written = contents("samples", "0*")
    record = json.loads(written["001-seed6-sunset.json"])
    expected = {"prompt": "Sunset", "negative_prompt": "", "seed": 6, "steps": 2, "guidance_scale": 7.5}
    expected |= {
        "sampler": "ddim",
        "eta": 0.5,
        "dtype": "float16",
        "num_frames": 2,
        "height": 64,
        "width": 64,
    }
    assert {name: record[name] for name in expected} == expected
    assert len(written["000-seed5-sunset.mp4"]) > 1000
    assert written["000-seed5-sunset.npy"] != written["001-seed6-sunset.npy"]
    result = latte_replay("samples/001-seed6-sunset.json", "again")
    assert result.exit_code == 0, result.stderr
    again = contents("again")
    assert again == {name: written[name] for name in again}
    assert len(again) == 3


def latte_replay(sidecar: str, out: str) -> Result:
    return runner.invoke(cli.app, ["sample", "--replay", sidecar, "--out", out], catch_exceptions=False)


@pytest.mark.slow
def test_a_replay_writes_only_into_its_folder(folder: Path) -> None:
    drawn("--prompt", "x", "--steps", "2", "--format", "latents")
    sidecar = folder / "samples" / "000-seed42-x.json"
    sidecar.write_text(sidecar.read_text().replace('"000-seed42-x"', '"../../escaped"'))
    before = sorted(folder.rglob("*"))
    result = latte_replay(str(sidecar), "deep/out")
    fault = 'name: found "../../escaped", expected a path inside the folder'
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"{sidecar}: {fault}\n")
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_a_replay_larger_than_any_memory_is_rejected(folder: Path) -> None:
    drawn("--prompt", "x", "--steps", "2", "--format", "latents")
    sidecar = folder / "samples" / "000-seed42-x.json"
    rewrite(sidecar, num_frames=65536, height=16384, width=16384)
    result = latte_replay(str(sidecar), "out")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(
        "a clip of 65536 frames of 16384 x 16384 pixels takes about 132 TB of memory, "
    )
    assert not Path("out").exists()


@pytest.mark.slow
def test_a_prompts_file_sets_seeds_steps_and_guidance_per_line() -> None:
    Path("prompts.txt").write_text("# two\na cat --seed 9 --steps 3\n\ndogs [and] cats --guidance-scale 1\n")
    names = drawn("--prompts-file", "prompts.txt", "--steps", "2", "--format", "latents", "--prompt", "sea")
    clips = ("000-seed42-sea", "001-seed9-a-cat", "002-seed42-dogs-and-cats")
    assert names == [f"{clip}.{suffix}" for clip in clips for suffix in ("npy", "json")]
    records = [json.loads(Path(f"samples/{clip}.json").read_text()) for clip in clips]
    assert [(record["steps"], record["guidance_scale"]) for record in records] == [(2, 7.5), (3, 7.5), (2, 1)]
    assert records[2]["prompt"] == "dogs [and] cats"


@pytest.mark.slow
def test_a_clip_does_not_depend_on_the_other_prompts_and_their_order() -> None:
    flags = ("--steps", "2", "--format", "latents")
    drawn("--prompt", "the sea", *flags, "--out", "alone")
    others = ("a", "", "\U0001f431", '"b"')
    prompts = [part for text in (*others[:2], "the sea", *others[2:]) for part in ("--prompt", text)]
    assert len(drawn(*prompts, *flags, "--out", "among")) == 10
    alone, among = (np.load(next(Path(name).glob("*the-sea.npy"))) for name in ("alone", "among"))
    np.testing.assert_array_equal(alone, among)


@pytest.mark.slow
def test_one_frame_is_a_picture_of_the_requested_size() -> None:
    flags = ("--prompt", "x", "--num-frames", "1", "--height", "32", "--width", "80", "--steps", "2")
    names = drawn(*flags, "--num-samples", "2")
    clips = ("000-seed42-x", "001-seed43-x")
    assert names == [*(f"{clip}.{suffix}" for clip in clips for suffix in ("png", "json")), "grid.png"]
    assert Image.open("samples/000-seed42-x.png").size == (80, 32)


@pytest.mark.slow
def test_sampling_only_latents_needs_no_autoencoder(folder: Path) -> None:
    pipeline = Path(shutil.copytree(PIPELINE, folder / "pipeline"))
    shutil.rmtree(pipeline / "vae")
    assert len(drawn("--prompt", "x", "--steps", "2", "--format", "latents", pipeline=pipeline)) == 2


@pytest.mark.slow
def test_workers_write_the_same_files_as_one_process(folder: Path) -> None:
    flags = ["--pipeline", str(PIPELINE), "--device", "cpu", "--prompt", "a", "--prompt", "b", "--steps", "2"]
    for out, more in (("one", []), ("two", ["--parallel", "2"])):
        command = [
            sys.executable,
            "-m",
            "latte_cli",
            "sample",
            *flags,
            "--num-samples",
            "2",
            "--out",
            out,
            *more,
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 4 * 3 + 2
    assert contents("one") == contents("two")
    assert len(contents("one")) == 4 * 3 + 2
    assert sorted(path.name for path in Path("one").iterdir()) == sorted(contents("one"))
    assert not list(Path("two/logs").glob("*.npy"))


@pytest.mark.slow
def test_truncating_a_long_prompt_is_reported() -> None:
    result = latte("--pipeline", PIPELINE, "--prompt", "a " * 300, "--steps", "1", "--format", "latents")
    assert result.exit_code == 0
    assert "tokens, kept 120; left out:" in result.stderr


def test_a_dry_run_shows_the_memory_of_each_stage_and_leaves_nothing(folder: Path) -> None:
    result = latte("--pipeline", PIPELINE, "--prompt", "[red]x[/red]", "--dry-run", "--parallel", "2")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "                [red]x[/red]: 50 steps, guidance 7.5, seed 42\n" in result.stdout
    assert "sampler          the pipeline's DDIMScheduler\n" in result.stdout
    assert "  sampler: null\n" in result.stdout
    row = next(line for line in result.stdout.splitlines() if line.startswith("memory"))
    texts = f"text encoder {bytes_of(encoding_memory(open_pipeline(PIPELINE).text, 2))}"
    for word in ("per worker, 2 workers", texts, "transformer 186 kB", "decoding"):
        assert word in row
    assert not list(folder.iterdir())


def test_a_plan_does_not_read_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(paths: object) -> dict[str, str]:
        raise AssertionError(f"hashed {paths}")

    monkeypatch.setattr(from_pipeline, "digests", read)
    result = latte("--pipeline", PIPELINE, "--prompt", "x", "--dry-run")
    assert (result.exit_code, result.stderr) == (0, "")
    with pytest.raises(AssertionError, match="hashed"):
        latte("--pipeline", PIPELINE, "--prompt", "x", "--steps", "1", "--out", "made")


@pytest.mark.slow
def test_a_pipeline_in_the_settings_equals_the_flag() -> None:
    of_flag = latte("--pipeline", PIPELINE, "--prompt", "x", "--dry-run")
    of_setting = latte("--set", f"sample.pipeline={PIPELINE}", "--prompt", "x", "--dry-run")
    steady = [
        [line for line in result.stdout.splitlines() if not line.startswith("time")]
        for result in (of_flag, of_setting)
    ]
    assert steady[0] == steady[1]
    assert "sampler          the pipeline's DDIMScheduler" in steady[1]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["--prompt", "x"],
            "no --pipeline was given; to sample from a prompt, give --pipeline hf://maxin-cn/Latte-1",
        ),
        (
            ["--prompt", "x", "--pipeline", "none"],
            "none: no such folder; to sample from a prompt, give --pipeline hf://maxin-cn/Latte-1",
        ),
        (
            ["--pipeline", "P"],
            "--prompt: not given, expected a description of the clip; or --prompts-file FILE",
        ),
        (
            ["--prompt", "x", "-c", "class.yaml"],
            "--prompt: class.yaml has model.condition: class, expected text; or give --pipeline DIR",
        ),
        (
            ["--pipeline", "P", "--prompt", "x", "--height", "60"],
            "--height: found 60, expected a multiple of 16",
        ),
        (
            ["--pipeline", "P", "--prompt", "x", "--set", "sample.respacing=ddim50"],
            "sample.respacing: found ddim50, expected null with a pipeline: give sample.steps",
        ),
        (
            ["--pipeline", "P", "--prompt", "x", "--lora", "none"],
            "--lora: none: no such file",
        ),
        (
            ["--pipeline", "P", "--prompt", "x", "--steps", "1000", "--set", "diffusion.num_timesteps=9"],
            "sample.steps: found 1000, expected at most diffusion.num_timesteps 9",
        ),
        (
            ["--pipeline", "P", "--prompt", "x", "--initial-latents", "noise.npy"],
            "noise.npy: found noise of shape (1, 3, 4, 8, 8), expected (N, 2, 4, 8, 8)",
        ),
        (
            ["--pipeline", "P", "--prompts-file", "prompts.txt"],
            "--prompts-file: prompts.txt: line 2: found --sed, expected --seed, --steps, --guidance-scale or none",
        ),
        (
            ["--pipeline", "P", "--prompt", "x", "--out", "noise.npy/out"],
            "--out: noise.npy/out: noise.npy: is a file, expected a folder",
        ),
        (
            ["--pipeline", "P", "--prompt", "x", "--lora", "prompts.txt", "--dry-run"],
            "prompts.txt: is not a known weights format (PyTorch, safetensors, MindSpore)",
        ),
        (
            ["--pipeline", "P", "--prompt", "x", "--negative-prompt", "low \udcff"],
            '--negative-prompt: found "low \\udcff", expected valid UTF-8',
        ),
        (
            ["--pipeline", "P", "--prompt", "x", "--out", "caf\udce9"],
            '--out: found "caf\\udce9", expected valid UTF-8',
        ),
        (
            ["--pipeline", "P", "--prompt", "x", "--lora", "caf\udce9:0.5"],
            '--lora: found "caf\\udce9", expected valid UTF-8',
        ),
        (
            ["--pipeline", "P", "--prompts-file", "none.txt"],
            "--prompts-file: none.txt: cannot be read: No such file or directory",
        ),
    ],
)
def test_a_user_error_is_one_line(arguments: list[str], error: str) -> None:
    Path("class.yaml").write_text("model: {preset: Latte-S/2, condition: class, num_classes: 3}\n")
    Path("prompts.txt").write_text("first\nsecond --sed 3\n")
    np.save("noise.npy", np.zeros((1, 3, 4, 8, 8), np.float32))
    result = latte(*[str(PIPELINE) if argument == "P" else argument for argument in arguments])
    assert (result.exit_code, result.stderr, result.stdout) == (1, f"{error}\n", "")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["--prompt", "x", "--class-label", "1"],
            "--class-label: cannot be combined with --prompt",
        ),
        (
            ["--pipeline", "P", "--checkpoint", "x", "--prompt", "x"],
            "--checkpoint: cannot be combined with --pipeline",
        ),
        (["--num-frames", "1"], "--num-frames: requires --pipeline; this run has data.num_frames 16"),
        (["--height", "64"], "--height: requires --pipeline; this run has data.image_size 64"),
    ],
)
def test_contradictory_flags_give_exit_code_2(arguments: list[str], error: str) -> None:
    result = latte(*arguments)
    assert result.exit_code == 2
    assert result.stderr.endswith(f"Error: Invalid value for {error}\n")


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (
            lambda folder: (folder / "tokenizer" / "spiece.model").unlink(),
            "pipeline/tokenizer/spiece.model: no such file; required by the t5 tokenizer",
        ),
        (
            lambda folder: (folder / "tokenizer" / "spiece.model").write_bytes(b"torn"),
            "pipeline/tokenizer/spiece.model: is not a sentencepiece model",
        ),
        (
            lambda folder: rewrite(folder / "model_index.json", _class_name="StableDiffusionPipeline"),
            'pipeline/model_index.json: found "StableDiffusionPipeline", expected LattePipeline',
        ),
        (
            lambda folder: rewrite(folder / "vae" / "config.json", block_out_channels=[4, 4, 4]),
            "pipeline/vae/config.json: found a downsampling factor of 4, expected 8",
        ),
        (
            lambda folder: rewrite(folder / "transformer" / "config.json", num_layers=60000),
            "pipeline/transformer/diffusion_pytorch_model.safetensors: depth: found 2, expected that of"
            " pipeline/transformer/config.json, 60000",
        ),
        (
            lambda folder: rewrite(
                folder / "transformer" / "config.json", num_attention_heads=1000, cross_attention_dim=8000
            ),
            "pipeline/transformer/diffusion_pytorch_model.safetensors: hidden_size: found 24, expected that of"
            " pipeline/transformer/config.json, 8000",
        ),
        (
            lambda folder: shutil.rmtree(folder / "text_encoder"),
            "pipeline/text_encoder: no such folder; the pipeline is incomplete",
        ),
        (
            lambda folder: (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink(),
            "pipeline/transformer: a folder without weights; expected diffusion_pytorch_model.safetensors or similar",
        ),
    ],
)
def test_an_incomplete_pipeline_gives_a_one_line_error(spoil: Callable[[Path], object], error: str) -> None:
    spoil(Path(shutil.copytree(PIPELINE, "pipeline")))
    result = latte("--pipeline", "pipeline", "--prompt", "x", "--steps", "2")
    assert (result.exit_code, result.stderr.splitlines()[-1], result.stdout) == (1, error, "")
    assert len(result.stderr.splitlines()) == 1
    assert not list(Path().glob("samples/*"))


@pytest.mark.slow
def test_adapters_are_added_with_their_strengths_and_replayed() -> None:
    lora = GOLDEN.parent / "lora"
    # The name ends like a strength. Without a configuration, alpha is the rank.
    shutil.copy(lora / "adapter_model.safetensors", "own:0.5")
    flags = ("--prompt", "x", "--steps", "2", "--format", "latents")
    drawn(*flags, "--lora", lora, "--out", "whole")
    drawn(*flags, "--lora", f"{lora}:0.75", "--lora", f"{lora}:.25", "--out", "parts")
    drawn(*flags, "--lora", "own:0.5:1", "--lora", f"{lora}:-1", "--out", "other")
    whole, parts, other = (np.load(f"{out}/000-seed42-x.npy") for out in ("whole", "parts", "other"))
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-4)
    assert np.abs(other - whole).max() > 1e-2
    record = json.loads(Path("other/000-seed42-x.json").read_text())
    assert record["lora"] == [{"path": "own:0.5", "strength": 1.0}, {"path": str(lora), "strength": -1.0}]
    assert str(lora / "adapter_config.json") in record["sha256"]
    assert latte_replay("other/000-seed42-x.json", "again").exit_code == 0
    assert contents("again") == contents("other")


@pytest.mark.slow
def test_a_lora_changes_the_clip_and_is_in_its_sidecar() -> None:
    name = "transformer.transformer_blocks.0.attn1.to_v"
    factors = {f"{name}.lora_A.weight": np.full((1, 24), 0.1), f"{name}.lora_B.weight": np.ones((24, 1))}
    save_file({key: values.astype(np.float32) for key, values in factors.items()}, "lora.safetensors")
    flags = ("--prompt", "x", "--steps", "2", "--format", "latents")
    drawn(*flags, "--out", "plain")
    drawn(*flags, "--lora", "lora.safetensors", "--out", "changed")
    plain, changed = (np.load(f"{out}/000-seed42-x.npy") for out in ("plain", "changed"))
    assert np.abs(plain - changed).max() > 1e-3
    assert "lora.safetensors" in json.loads(Path("changed/000-seed42-x.json").read_text())["sha256"]
    Path("lora.safetensors").write_bytes(b"other")
    refused = latte_replay("changed/000-seed42-x.json", "again")
    assert refused.stderr == (
        "changed/000-seed42-x.json: lora.safetensors is not the file that the clip was made from\n"
    )
