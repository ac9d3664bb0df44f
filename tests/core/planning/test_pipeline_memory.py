"""The memory plan of a pipeline."""

from functools import partial
from pathlib import Path

from safetensors.numpy import load_file

from latte_cli.core.checkpoints.autoencoder import open_autoencoder
from latte_cli.core.models.pipeline.folder import open_pipeline
from latte_cli.core.models.text.memory import encoding_memory
from latte_cli.core.models.vae.memory import bytes_a_frame
from latte_cli.core.planning.pipeline_memory import sampling_memory

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


def test_guidance_doubles_the_activations_and_chunks_bound_the_decoding() -> None:
    plain = memory_of(num_frames=2, size=SIZE, guided=False)
    guided = memory_of(num_frames=2, size=SIZE, guided=True, chunk_frames=1)
    assert guided.activations == 2 * plain.activations
    a_frame = bytes_a_frame("decoding", open_autoencoder(str(PIPELINE.vae)).shape, *SIZE)
    assert plain.decoding - guided.decoding == a_frame


def test_texts_take_the_largest_matrix_and_their_values_however_deep_the_encoder_is() -> None:
    tokens, wide, width, heads = 120, 24, 16, 4
    values = 4 * (tokens * (3 * wide + 5 * width) + heads * tokens**2)
    assert encoding_memory(PIPELINE.text, 1) == 4 * wide * width + values
    assert encoding_memory(PIPELINE.text, 1000) == 4 * wide * width + 16 * values


def test_the_peak_leaves_out_the_encoder_that_is_freed() -> None:
    memory = memory_of(num_frames=16, size=(128, 128), guided=True)
    assert memory.peak == memory.transformer + memory.autoencoder + max(memory.activations, memory.decoding)
    assert memory._replace(text_encoder=memory.peak + 1).peak == memory.peak + 1
