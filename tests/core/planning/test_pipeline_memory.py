"""The memory plan of a pipeline."""

from functools import partial
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from latte_cli.core.errors import LatteError
from latte_cli.core.models.pipeline.folder import open_pipeline
from latte_cli.core.models.text.memory import READING, encoding_memory, encoding_work
from latte_cli.core.planning import pipeline_memory
from latte_cli.core.planning.pipeline_memory import SamplingMemory, check_clip_memory, sampling_memory

PIPELINE = open_pipeline(Path(__file__).parents[2] / "golden" / "t2v" / "pipeline")
SIZE = (64, 64)
WIDTH, HEADS = 24, 3  # of its transformer


EMBEDDING = "encoder.embed_tokens.weight"  # another name of shared.weight
memory_of = partial(sampling_memory, PIPELINE, decoder=PIPELINE.vae)


def size_of(path: str) -> int:
    return sum(array.size for array in load_file(PIPELINE.path / path).values())


def test_weights_are_counted_exactly_and_in_their_type() -> None:
    memory = memory_of(num_frames=2, size=SIZE, guided=True, dtype="float16")
    transformer = size_of("transformer/diffusion_pytorch_model.safetensors")
    assert memory.transformer == 2 * transformer
    assert memory.autoencoder == 4 * size_of("vae/diffusion_pytorch_model.safetensors")


def test_on_a_cpu_the_peak_is_at_the_gelu_and_has_no_attention_scores() -> None:
    tokens = 2 * 16 * (512 // 16) ** 2  # rows, frames, patches of 16 pixels
    memory = memory_of(num_frames=16, size=(512, 512), guided=True)
    assert memory.activations == 4 * tokens * (WIDTH + 4 * WIDTH + 4 * WIDTH + WIDTH)


def test_on_other_devices_the_peak_includes_attention_scores_twice() -> None:
    frame = (512 // 16) ** 2
    memory = memory_of(num_frames=16, size=(512, 512), guided=False, device="ascend")
    assert memory.activations == 2 * 4 * 16 * HEADS * frame * frame
    assert memory.mindspore == 0


def test_guidance_doubles_the_activations() -> None:
    plain, guided = (memory_of(num_frames=2, size=SIZE, guided=guided) for guided in (False, True))
    assert guided.activations == 2 * plain.activations


def test_chunks_limit_the_memory_of_decoding() -> None:
    a_frame = 4 * 64 * 64 * 2 * (4 + 4)  # float32, the last stage's two widths, before and after
    whole = memory_of(num_frames=2, size=SIZE, guided=False)
    chunks = memory_of(num_frames=2, size=SIZE, guided=False, chunk_frames=1)
    assert (whole.decoding, chunks.decoding) == (120_000_000 + 2 * a_frame, 120_000_000 + a_frame)


def test_encoding_counts_reading_the_weights_and_their_matrix_products() -> None:
    path = PIPELINE.path / "text_encoder" / "model.safetensors"
    arrays = {name: array.size for name, array in load_file(path).items()}
    weights = sum(size for name, size in arrays.items() if name not in ("shared.weight", EMBEDDING))
    seconds, operations = encoding_work(PIPELINE.text, 17)
    assert seconds == pytest.approx(2 * weights * READING)
    assert operations == 2 * 17 * 120 * weights


def test_the_memory_of_encoding_texts_does_not_depend_on_the_depth() -> None:
    tokens, wide, width, heads = 120, 24, 16, 4
    values = 4 * (tokens * (3 * wide + 5 * width) + heads * tokens**2)
    assert encoding_memory(PIPELINE.text, 1) == 4 * wide * width + values
    assert encoding_memory(PIPELINE.text, 1000) == 4 * wide * width + 16 * values


@pytest.mark.parametrize(
    ("stages", "peak"), [((2, 1, 10, 5, 3, 7), 22), ((2, 1, 10, 9, 3, 7), 24), ((2, 100, 10, 9, 3, 7), 102)]
)
def test_the_peak_does_not_include_the_encoder_that_is_freed_before(
    stages: tuple[int, ...], peak: int
) -> None:
    assert SamplingMemory(*stages).peak == peak


def test_the_error_for_a_clip_that_does_not_fit_suggests_the_largest_that_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_clip = partial(memory_of, guided=True)
    fewer, smaller = of_clip(num_frames=4, size=(512, 512)).peak, of_clip(num_frames=16, size=(256, 256)).peak
    free = max(fewer, smaller)
    assert of_clip(num_frames=8, size=(512, 512)).peak > free
    monkeypatch.setattr(pipeline_memory, "free_memory", lambda: free)
    with pytest.raises(LatteError) as caught:
        check_clip_memory(of_clip, 16, (512, 512), "cpu")
    start, wanted = str(caught.value).split(" are free: ")
    assert start.startswith("a clip of 16 frames of 512 x 512 pixels takes about ")
    assert wanted == "expected --num-frames 4 or --height 256 --width 256"
    check_clip_memory(of_clip, 4, (512, 512), "cpu")
    check_clip_memory(of_clip, 16, (512, 512), "ascend")
    with pytest.raises(LatteError, match=r"512 GB are an accelerator's most: expected --num-frames"):
        check_clip_memory(of_clip, 1 << 20, (512, 512), "ascend")
    monkeypatch.setattr(pipeline_memory, "free_memory", lambda: 1000)
    with pytest.raises(LatteError, match=r"1 kB are free: no clip of this pipeline fits$"):
        check_clip_memory(of_clip, 16, (512, 512), "cpu")
