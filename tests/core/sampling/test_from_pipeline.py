"""Clips from prompts, compared with diffusers' pipeline (tests/golden/t2v)."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from latte_cli.core.checkpoints.lora import LoraUse
from latte_cli.core.data.videos.transforms import to_uint8
from latte_cli.core.diffusion.samplers import Model
from latte_cli.core.diffusion.schedule import make_schedule
from latte_cli.core.errors import LatteError
from latte_cli.core.models.pipeline.folder import open_pipeline
from latte_cli.core.models.pipeline.scheduler import load_scheduler, schedule_of_config
from latte_cli.core.models.vae.autoencoder import load_vae
from latte_cli.core.sampling.denoise import Denoiser
from latte_cli.core.sampling.from_pipeline import generator_of
from latte_cli.core.sampling.generator import ClipStep
from latte_cli.core.sampling.spec import PipelineSpec
from latte_cli.core.settings.schema import DiffusionSettings, VaeSettings

Doubles: TypeAlias = NDArray[np.float64]

GOLDEN = Path(__file__).parents[2] / "golden" / "t2v"
PIPELINE = GOLDEN / "pipeline"
RECORDED = dict(np.load(GOLDEN / "pipeline_golden.npz"))
CALL = json.loads((GOLDEN / "pipeline_call.json").read_text())


def latents(name: str) -> NDArray[np.float32]:
    """Recorded latents (1, 4, F, h, w) as (F, 4, h, w)."""
    return np.asarray(RECORDED[name][0].swapaxes(0, 1))


SPEC = PipelineSpec(
    name="clip",
    seed=42,
    row=0,
    prompt=CALL["prompt"],
    negative_prompt=CALL["negative_prompt"],
    initial_latents=None,
    sha256={},
    formats=("mp4",),
    steps=CALL["num_inference_steps"],
    guidance_scale=CALL["guidance_scale"],
    pipeline=PIPELINE,
    sampler=None,
    eta=0.0,
    num_frames=2,
    height=64,
    width=64,
    dtype="float32",
    clean_caption=True,
    lora=(),
    chunk_frames="auto",
    fps=8,
    device="cpu",
)
FREE = SPEC.model_copy(update={"steps": 2})


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> PipelineSpec:
    """The recorded clip, which starts from recorded noise."""
    path = tmp_path_factory.mktemp("noise") / "noise.npy"
    np.save(path, latents("latents")[None])
    return SPEC.model_copy(update={"initial_latents": path})


def replace(spec: PipelineSpec, **changes: Any) -> PipelineSpec:
    return spec.model_copy(update=changes)


def reports(*specs: PipelineSpec, decodes: bool = False, **common: Any) -> list[ClipStep]:
    specs = tuple(replace(spec, **common) for spec in specs)
    generator = generator_of(specs[0], decodes=decodes)
    generator.check(specs)
    return list(generator.generate(specs, decodes=decodes))


def made(*specs: PipelineSpec, **options: Any) -> list[ClipStep]:
    return [report for report in reports(*specs, **options) if report.is_last]


def assert_near(found: NDArray[Any], expected: NDArray[Any], share: float = 1e-3) -> None:
    assert np.abs(found - expected).max() <= share * np.abs(expected).max()


@pytest.fixture(scope="module")
def golden_run(golden: PipelineSpec) -> list[ClipStep]:
    return reports(golden, decodes=True)


@pytest.mark.plain
@pytest.mark.slow
def test_every_step_matches_the_pipeline(golden_run: list[ClipStep]) -> None:
    steps = [report.latents for report in golden_run if report.latents is not None]
    assert len(steps) == len(RECORDED["step_latents"])
    for found, expected in zip(steps, RECORDED["step_latents"], strict=True):
        assert_near(found, expected[0].swapaxes(0, 1))


@pytest.mark.plain
@pytest.mark.slow
def test_final_latents_and_video_match_the_pipeline(golden_run: list[ClipStep]) -> None:
    clip = golden_run[-1]
    assert clip.latents is not None
    assert clip.frames is not None
    assert_near(clip.latents, latents("final_latents"))
    video = load_vae(VaeSettings(weights=str(PIPELINE / "vae"))).decode(clip.latents)
    np.testing.assert_allclose((video / 2 + 0.5).clip(0, 1), RECORDED["video_pt_BFCHW_0_1"][0], atol=1e-3)
    np.testing.assert_array_equal(clip.frames, to_uint8(video))


@pytest.mark.plain
def test_without_guidance_the_latents_match_the_pipeline(golden: PipelineSpec) -> None:
    (clip,) = made(replace(golden, guidance_scale=1.0))
    assert_near(clip.latents, latents("final_latents_guidance1"))


@pytest.mark.slow
def test_a_clip_has_the_same_bytes_alone_and_as_one_of_five() -> None:
    texts = ("a painting of a squirrel", "", 'clouds [over] "mountains" \U0001f431', "a " * 300)
    others = [replace(FREE, prompt=text, negative_prompt="", seed=seed) for seed, text in enumerate(texts)]
    (alone,) = made(FREE, eta=0.7)
    among = made(*others[:2], FREE, *others[2:], eta=0.7)
    assert len(among) == 5
    np.testing.assert_array_equal(among[2].latents, alone.latents)
    assert all(np.isfinite(clip.latents).all() for clip in among)


@pytest.mark.slow
def test_a_clip_depends_on_its_seed() -> None:
    first, again, other = made(FREE, FREE, replace(FREE, seed=1))
    np.testing.assert_array_equal(first.latents, again.latents)
    assert np.abs(first.latents - other.latents).max() > 0.1


KEPT = [0, 333, 666, 999]  # four of the 1000 timesteps, evenly spaced
ABAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[KEPT]
SIGNAL, SIGMA = np.sqrt(ABAR), np.sqrt(1 - ABAR)


def ddpm_step(place: int, x_t: Doubles, x_start: Doubles, values: Doubles, _: Doubles) -> Doubles:
    """A sample of the posterior of x_start with learned log-variance and the step's noise of seed 42."""
    abar, before = ABAR[place], ABAR[place - 1] if place else 1.0
    beta = 1 - abar / before
    mean = (np.sqrt(before) * beta * x_start + np.sqrt(1 - beta) * (1 - before) * x_t) / (1 - abar)
    if not place:
        return mean
    share = (values + 1) / 2
    log_variance = share * np.log(beta) + (1 - share) * np.log(beta * (1 - before) / (1 - abar))
    seed = np.random.SeedSequence([42, 9, 1 + len(KEPT) - 1 - place])
    noise = np.random.Generator(np.random.Philox(seed)).standard_normal(x_t.shape, np.float32)
    return mean + np.exp(log_variance / 2) * noise


def ddim_step(place: int, x_t: Doubles, x_start: Doubles, _: Doubles, __: Doubles) -> Doubles:
    if not place:
        return x_start
    return SIGNAL[place - 1] * x_start + SIGMA[place - 1] * (x_t - SIGNAL[place] * x_start) / SIGMA[place]


def dpm_step(place: int, x_t: Doubles, x_start: Doubles, _: Doubles, last_x_start: Doubles) -> Doubles:
    """First order, or second order if there are steps before and after this one."""
    log_snr = np.log(SIGNAL / SIGMA)
    if place != 2:
        return ddim_step(place, x_t, x_start, _, _)
    ratio = (log_snr[2] - log_snr[3]) / (log_snr[1] - log_snr[2])
    direction = x_start + (x_start - last_x_start) / (2 * ratio)
    shrink = np.expm1(-(log_snr[1] - log_snr[2]))
    return SIGMA[1] / SIGMA[2] * x_t - SIGNAL[1] * shrink * direction


@pytest.mark.plain
@pytest.mark.parametrize(("sampler", "step"), [("ddpm", ddpm_step), ("ddim", ddim_step), ("dpm++", dpm_step)])
def test_our_samplers_match_the_formulas_with_the_schedule_of_the_pipeline(
    sampler: str, step: Callable[..., Doubles], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Doubles, NDArray[Any], Doubles]] = []
    conditioned = Denoiser.__call__

    def watched(self: Denoiser, condition: NDArray[Any]) -> Model:
        model = conditioned(self, condition)

        def predict(x_t: NDArray[Any], timesteps: NDArray[Any]) -> NDArray[Any]:
            output = model(x_t, timesteps)
            calls.append((x_t.astype(np.float64), timesteps, output.astype(np.float64)))
            return output

        return predict

    monkeypatch.setattr(Denoiser, "__call__", watched)
    found = [
        report.latents
        for report in reports(FREE, steps=4, guidance_scale=1.0, sampler=sampler)
        if report.latents is not None
    ]
    assert [int(timesteps[0]) for _, timesteps, _ in calls] == KEPT[::-1]
    last = np.zeros(())
    for place, (x_t, _, output), latents_found in zip((3, 2, 1, 0), calls, found, strict=True):
        eps, values = output[:, :, :4], output[:, :, 4:]
        x_start = (x_t - SIGMA[place] * eps) / SIGNAL[place]
        expected = step(place, x_t, x_start, values, last)[0]
        np.testing.assert_allclose(latents_found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
        last = x_start


def test_our_schedule_matches_the_scheduler() -> None:
    config = open_pipeline(PIPELINE).scheduler
    ours = schedule_of_config(config, 1000, source="config")
    theirs = load_scheduler(config, source="config").alphas_cumprod.asnumpy()
    np.testing.assert_allclose(ours.tables.alphas_cumprod, theirs, rtol=1e-5)
    expected = make_schedule(DiffusionSettings(), "50").tables
    np.testing.assert_allclose(
        schedule_of_config(config, 50, source="config").tables.betas, expected.betas, rtol=1e-12
    )


@pytest.mark.slow
def test_one_frame_of_another_size_is_an_image() -> None:
    (clip,) = made(FREE, num_frames=1, height=32, width=80, decodes=True)
    assert clip.latents.shape == (1, 4, 4, 10)
    assert clip.frames is not None
    assert clip.frames.shape == (1, 32, 80, 3)


@pytest.mark.plain
@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "share"), [("float16", 2.0**-8), ("bfloat16", 2.0**-5)])
def test_half_precision_weights_give_a_close_result(golden: PipelineSpec, dtype: str, share: float) -> None:
    (clip,) = made(golden, dtype=dtype)
    assert_near(clip.latents, latents("final_latents"), share)


@pytest.mark.slow
def test_a_lora_file_changes_the_clip(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    name = "transformer.transformer_blocks.0.attn1.to_v"
    factors = {
        f"{name}.lora_A.weight": np.full((1, 24), 0.1, np.float32),
        f"{name}.lora_B.weight": np.ones((24, 1), np.float32),
    }
    save_file(factors, path)
    (plain,), (changed,) = made(FREE), made(FREE, lora=(LoraUse(path=path),))
    assert np.abs(plain.latents - changed.latents).max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 60}, "--height: found 60, expected a multiple of 16"),
        (
            {"pipeline": Path("none")},
            "none: no such folder; to sample from a prompt, give --pipeline hf://maxin-cn/Latte-1",
        ),
        ({"steps": 1001}, "sample.steps: found 1001, expected at most the 1000 of the pipeline's scheduler"),
        ({"lora": (LoraUse(path=PIPELINE / "vae" / "config.json"),)}, str(PIPELINE / "vae")),
    ],
)
def test_a_clip_that_cannot_be_sampled_gives_a_one_line_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LatteError) as refusal:
        reports(FREE, **changes)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_noise_of_another_shape_is_rejected(golden: PipelineSpec) -> None:
    message = r"noise.npy: found noise of shape \(1, 2, 4, 8, 8\), expected \(N, 1, 4, 8, 8\)"
    with pytest.raises(LatteError, match=message):
        reports(golden, num_frames=1)


def test_an_unknown_scheduler_is_rejected(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(PIPELINE, tmp_path / "pipeline"))
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": "MyScheduler"}))
    with pytest.raises(LatteError, match="MyScheduler is not supported by MindONE; give --sampler"):
        reports(FREE, pipeline=folder)
