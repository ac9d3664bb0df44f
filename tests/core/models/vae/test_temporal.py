"""The temporal decoder, compared with diffusers (tests/golden/sizes/temporal.npz), and the error messages."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from latte_cli.core.checkpoints.published import Hub
from latte_cli.core.checkpoints.temporal_decoder import TemporalDecoderShape
from latte_cli.core.data.captions.prompts import PromptLine
from latte_cli.core.data.videos.transforms import to_uint8
from latte_cli.core.errors import LatteError
from latte_cli.core.latents import SCALING_FACTOR
from latte_cli.core.models.pipeline.folder import open_pipeline, pipeline_files
from latte_cli.core.models.vae import memory
from latte_cli.core.models.vae.memory import OVERHEAD, check_temporal, temporal_bytes
from latte_cli.core.models.vae.temporal import TemporalDecoder, load_temporal_decoder
from latte_cli.core.models.weights import load_weights
from latte_cli.core.recipes.sample import prepare, prepare_replay, run
from latte_cli.core.sampling.from_pipeline import decoder_of
from latte_cli.core.sampling.media import contact_sheet
from latte_cli.core.sampling.spec import PipelineSpec, Request, read_spec
from latte_cli.core.settings.schema import SampleSettings, Settings
from latte_cli.core.settings.section import Switch
from tests.peers import golden_cases as cases

GOLDEN = Path(__file__).parents[3] / "golden"
RECORDED = dict(np.load(GOLDEN / "sizes" / "temporal.npz"))
SHAPE = TemporalDecoderShape(cases.TEMPORAL_DECODER["block_out_channels"], layers_per_block=1)
TOLERANCE = 1e-4 / 3  # relative to the maximum


def decoder() -> TemporalDecoder:
    model = TemporalDecoder(SHAPE)
    shapes = {parameter.name: parameter.shape for parameter in model.get_parameters()}
    values = {name: cases.weights(f"decoder.{name}", shape) for name, shape in shapes.items()}
    load_weights(model, values, source="the test")
    return model


def decoded(model: TemporalDecoder, frames: int) -> np.ndarray:
    latents = cases.normal(frames, (frames, 4, 6, 4))
    chunks = [latents[first : first + 14] for first in range(0, frames, 14)]
    return np.concatenate([model(chunk) for chunk in chunks])


@pytest.mark.plain
@pytest.mark.slow
@pytest.mark.parametrize("frames", cases.CLIP_LENGTHS)
def test_a_decoded_clip_matches_diffusers(frames: int) -> None:
    assert cases.error(decoded(decoder(), frames), RECORDED, f"decode-{frames}") <= TOLERANCE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The decoder among the tensors of a full AutoencoderKLTemporalDecoder."""
    path = tmp_path_factory.mktemp("temporal") / "vae_temporal_decoder"
    path.mkdir()
    shapes = {parameter.name: parameter.shape for parameter in TemporalDecoder(SHAPE).get_parameters()}
    values = {f"decoder.{name}": cases.weights(f"decoder.{name}", shape) for name, shape in shapes.items()}
    save_file(values | {"encoder.conv_in.bias": np.zeros(32, np.float32)}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"block_out_channels": SHAPE.block_out_channels}))
    return path


def test_the_decoder_of_a_folder_decodes_14_frames_at_a_time(folder: Path) -> None:
    vae = load_temporal_decoder(folder, scaling_factor=0.5)
    frames = vae.decode(0.5 * cases.normal(16, (16, 4, 6, 4)))
    assert cases.error(frames, RECORDED, "decode-16") <= TOLERANCE


def test_weights_of_another_model_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(LatteError, match="found no temporal decoder with an upsampling factor of 8"):
        load_temporal_decoder(GOLDEN / "vae" / "diffusers", scaling_factor=1.0)


def pipeline_with(tmp_path: Path, decoder: Path | None) -> Path:
    pipeline = tmp_path / "pipeline"
    shutil.copytree(GOLDEN / "t2v" / "pipeline", pipeline)
    if decoder is not None:
        shutil.copytree(decoder, pipeline / "vae_temporal_decoder")
    return pipeline


@pytest.mark.parametrize(
    ("asked", "frames", "expected"),
    [
        ("auto", 16, "vae_temporal_decoder"),
        ("auto", 1, "vae"),
        (True, 1, "vae_temporal_decoder"),
        (False, 16, "vae"),
    ],
)
def test_a_temporal_decoder_in_the_folder_is_used(
    tmp_path: Path, folder: Path, asked: Switch, frames: int, expected: str
) -> None:
    path = pipeline_with(tmp_path, folder)
    decoder = decoder_of(open_pipeline(path), asked, frames=frames)
    assert decoder == path / expected
    files = pipeline_files(open_pipeline(path), decoder=decoder)
    assert {file.parent.name for file in files} >= {expected, "transformer"}
    sample = SampleSettings(pipeline=path, temporal_decoder=asked)
    request = Request([PromptLine("a cat")], num_frames=frames, out=tmp_path)
    rows = dict(prepare(Settings(sample=sample), request, Hub()).plan.rows)
    assert expected == "vae" or rows["decoding"] == f"{min(frames, 14)} frames together with {decoder}"


def test_a_missing_temporal_decoder_is_an_error_only_if_requested(tmp_path: Path) -> None:
    path = pipeline_with(tmp_path, None)
    pipeline = open_pipeline(path)
    assert decoder_of(pipeline, "auto", frames=16) == path / "vae"
    with pytest.raises(LatteError) as caught:
        decoder_of(pipeline, True, frames=16)
    assert (
        str(caught.value) == f"sample.temporal_decoder: found on, but no folder {path}/vae_temporal_decoder"
    )


def test_what_does_not_fit_in_memory_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = (128, 256, 512, 512)
    needed = temporal_bytes(widths, 14, 512, 512)
    assert needed == OVERHEAD + 4 * 512**2 * (14 * 128 + 3 * (128 + 256))
    monkeypatch.setattr(memory, "free_memory", lambda: needed)
    check_temporal(widths, 14, 512, 512)
    with pytest.raises(LatteError, match=r"^sample\.temporal_decoder: decoding 14 frames of 1024 x 1024"):
        check_temporal(widths, 14, 1024, 1024)


@pytest.mark.slow
def test_a_clip_of_a_pipeline_is_replayed_with_the_temporal_decoder(tmp_path: Path, folder: Path) -> None:
    path = pipeline_with(tmp_path, folder)
    sample = SampleSettings(pipeline=path, sampler="ddim", steps=1, guidance_scale=1.0, num_samples=1)
    request = Request([PromptLine("a cat")], num_frames=3, formats=("png", "latents"), out=tmp_path / "clips")
    list(run(Settings(run_dir=tmp_path, device="cpu", sample=sample), request))
    (sidecar,) = (tmp_path / "clips").glob("*.json")
    spec = read_spec(sidecar)
    assert isinstance(spec, PipelineSpec)
    assert spec.temporal_decoder is True
    vae = load_temporal_decoder(path / "vae_temporal_decoder", scaling_factor=SCALING_FACTOR)
    frames = to_uint8(vae.decode(np.load(sidecar.with_suffix(".npy"))))
    expected = contact_sheet(np.asarray(frames)[None])
    np.testing.assert_array_equal(np.asarray(Image.open(sidecar.with_suffix(".png"))), expected)
    again = tmp_path / "again"
    list(prepare_replay(sidecar, Hub(), out=again).job().run())
    assert (again / sidecar.with_suffix(".png").name).read_bytes() == sidecar.with_suffix(".png").read_bytes()
