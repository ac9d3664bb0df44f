"""The memory plan of a pipeline."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from latte_cli.core.models.pipeline.folder import open_pipeline
from latte_cli.core.models.text.memory import encoding_memory
from latte_cli.core.planning.pipeline_memory import SamplingMemory, sampling_memory

PIPELINE = open_pipeline(Path(__file__).parents[2] / "golden" / "t2v" / "pipeline")
SIZE = (64, 64)


memory_of = partial(sampling_memory, PIPELINE, decoder=PIPELINE.vae)


def size_of(path: str) -> int:
    return sum(array.size for array in load_file(PIPELINE.path / path).values())


def test_weights_are_counted_exactly_in_their_type() -> None:
    memory = memory_of(num_frames=2, size=SIZE, guided=True, dtype="float16")
    transformer = size_of("transformer/diffusion_pytorch_model.safetensors")
    assert memory.transformer == 2 * transformer
    assert memory.autoencoder == 4 * size_of("vae/diffusion_pytorch_model.safetensors")


def test_activations_are_those_of_the_attention_to_the_text_or_of_the_feed_forward_layer() -> None:
    tokens = 2 * 4 * 4  # of two frames, in patches of 16 pixels
    scores = 2 * tokens * 3 * 120  # before and after the softmax, of 3 heads and 120 tokens of text
    assert memory_of(num_frames=2, size=SIZE, guided=False).activations == 4 * scores
    assert memory_of(num_frames=2, size=SIZE, guided=True).activations == 4 * 2 * scores
    wide = replace(PIPELINE.shape, hidden_size=768, num_heads=1)
    pipeline = replace(PIPELINE, shape=wide)
    memory = sampling_memory(pipeline, num_frames=2, size=SIZE, guided=False)
    assert memory.activations == 4 * tokens * (2 * 768 + 2 * 4 * 768)  # before and after the GELU


def test_chunks_bound_what_decoding_takes() -> None:
    a_frame = 4 * 64 * 64 * 2 * (4 + 4)  # float32, the last stage's two widths, before and after
    whole = memory_of(num_frames=2, size=SIZE, guided=False)
    chunks = memory_of(num_frames=2, size=SIZE, guided=False, chunk_frames=1)
    assert (whole.decoding, chunks.decoding) == (120_000_000 + 2 * a_frame, 120_000_000 + a_frame)


def test_texts_take_the_largest_matrix_and_their_values_however_deep_the_encoder_is() -> None:
    tokens, wide, width, heads = 120, 24, 16, 4
    values = 4 * (tokens * (3 * wide + 5 * width) + heads * tokens**2)
    assert encoding_memory(PIPELINE.text, 1) == 4 * wide * width + values
    assert encoding_memory(PIPELINE.text, 1000) == 4 * wide * width + 16 * values


@pytest.mark.parametrize(
    ("stages", "peak"), [((1, 10, 5, 3, 7), 20), ((1, 10, 9, 3, 7), 22), ((100, 10, 9, 3, 7), 100)]
)
def test_the_peak_leaves_out_the_encoder_that_is_freed(stages: tuple[int, ...], peak: int) -> None:
    assert SamplingMemory(*stages).peak == peak
