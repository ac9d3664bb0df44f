"""Memory and operations, compared with sums over all tensors."""

from pathlib import Path

import numpy as np
import pytest

from latte_cli.core.models.latte.shape import LatteShape
from latte_cli.core.models.latte_t2v.shape import TextToVideoShape
from latte_cli.core.models.latte_t2v.sizes import TextToVideoSizes
from latte_cli.core.planning import cost
from latte_cli.core.planning.cost import forward_flops, processor_speed, step_flops, training_memory
from latte_cli.core.settings.training import TrainSettings

SHAPE = LatteShape(hidden_size=24, depth=2, num_heads=3, patch_size=2, sample_size=8, num_frames=4)
TOKENS = 4 * 16  # of a clip


def dense(inputs: int, outputs: int) -> int:
    """Number of parameters of a layer with a bias."""
    return (inputs + 1) * outputs


EMBEDDERS = dense(2 * 2 * 4, 24) + dense(256, 24) + dense(24, 24)  # patches, the timestep's two layers
BLOCK = dense(24, 3 * 24) + dense(24, 24) + dense(24, 96) + dense(96, 24) + dense(24, 6 * 24)
TRAINED = EMBEDDERS + 2 * BLOCK + dense(24, 2 * 24) + dense(24, 2 * 2 * 8)
TABLES = (16 + 4) * 24  # spatial and temporal positions, which are not trained


def product(rows: int, inner: int, columns: int) -> int:
    """Operations of a matrix product."""
    return 2 * rows * inner * columns


def test_a_forward_pass_counts_every_matrix_product() -> None:
    embed = product(TOKENS, 4 * 4, 24)
    final = product(TOKENS, 24, 4 * 8)
    layers = product(TOKENS, 24, 72) + product(TOKENS, 24, 24) + 2 * product(TOKENS, 24, 96)
    spatial = 2 * 4 * 3 * product(16, 8, 16)  # frames x heads, scores and weighted sum
    temporal = 2 * 16 * 3 * product(4, 8, 4)
    assert forward_flops(SHAPE) == embed + final + 2 * layers + spatial + temporal


def test_a_text_to_video_pass_counts_the_attention_to_its_text() -> None:
    shape = TextToVideoShape(24, 1, 3, 2, caption_channels=16, sample_size=8, num_frames=4)
    text = TextToVideoSizes(shape, 8)
    queries = 2 * product(TOKENS, 24, 24)  # and outputs
    states = 2 * product(text.text_tokens, 24, 24)
    scores = 2 * 3 * product(TOKENS, 8, text.text_tokens)  # and the weighted sum
    assert forward_flops(text) == forward_flops(SHAPE) + queries + states + scores


def test_only_lora_parameters_have_gradients_moments_and_averages() -> None:
    shape = TextToVideoShape(24, 2, 3, 2, caption_channels=16)
    memory = training_memory(TextToVideoSizes(shape, 8, "lora", 5), TrainSettings(dtype="float32"))
    changes = 2 * (2 + 1) * 4 * (5 * 24 + 24 * 5)  # pairs x attentions x projections x factors
    assert memory[:4] == (4 * (shape.parameters() + changes), 4 * changes, 8 * changes, 4 * changes)


@pytest.mark.parametrize(("recompute", "passes"), [(False, 3), (True, 4)])
def test_a_step_is_three_forward_passes_of_every_clip_and_a_fourth_with_recompute(
    recompute: bool, passes: int
) -> None:
    train = TrainSettings(batch_size=5, accumulation=2, recompute=recompute)
    assert step_flops(SHAPE, train) == passes * 10 * forward_flops(SHAPE)


def test_weights_gradients_moments_and_average_are_float32() -> None:
    memory = training_memory(SHAPE, TrainSettings(dtype="float32"))
    assert memory[:4] == (4 * (TRAINED + TABLES), 4 * TRAINED, 8 * TRAINED, 4 * TRAINED)


def test_half_precision_halves_activations_and_adds_a_copy_of_the_weights() -> None:
    full = training_memory(SHAPE, TrainSettings(dtype="float32"))
    half = training_memory(SHAPE, TrainSettings(dtype="float16"))
    assert 2 * half.activations == full.activations
    assert half.weights - full.weights == 2 * TRAINED


def test_recompute_keeps_one_pair_of_blocks_and_the_input_of_every_block() -> None:
    deep = LatteShape(hidden_size=24, depth=8, num_heads=3, patch_size=2, sample_size=8, num_frames=4)
    kept = training_memory(deep, TrainSettings(dtype="float32", batch_size=2)).activations
    train = TrainSettings(dtype="float32", batch_size=2, recompute=True)
    assert training_memory(deep, train).activations == kept // 4 + 8 * 4 * 2 * TOKENS * 24


def test_the_speed_of_a_processor_is_its_fastest_product_times_its_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readings = iter([0.0, 0.5, 1.0, 1.2, 2.0, 2.1, 3.0, 3.4])  # 0.1 s at the third product
    products = []
    monkeypatch.setattr(cost.time, "process_time", lambda: next(readings))
    monkeypatch.setattr(cost.os, "sched_getaffinity", lambda _: {1, 2, 5})
    monkeypatch.setattr(
        cost.np, "matmul", lambda one, other: products.append((one.shape, other.shape, one.dtype))
    )
    assert processor_speed() == pytest.approx(3 * product(1024, 1024, 1024) / 0.1)
    assert products == 4 * [((1024, 1024), (1024, 1024), np.float32)]


def test_previews_add_one_copy_of_the_weights() -> None:
    without = training_memory(SHAPE, TrainSettings(dtype="float16"))
    held = training_memory(SHAPE, TrainSettings(dtype="float16", preview_every=10))
    assert without.previews == 0
    assert held.total - without.total == 4 * (TRAINED + TABLES)


def test_sharding_divides_moments_and_averages_but_previews_need_all_averages() -> None:
    train = TrainSettings(shard_optimizer=True)
    alone, three = training_memory(SHAPE, train), training_memory(SHAPE, train, workers=3)
    share = -(-TRAINED // 3)
    assert (alone.moments, alone.ema) == (8 * TRAINED, 4 * TRAINED)
    assert (three.moments, three.ema) == (8 * share, 4 * share)
    assert three[:2] + three[4:] == alone[:2] + alone[4:]
    for changed in ({"preview_every": 5}, {"validate_every": 5}):
        train = TrainSettings(shard_optimizer=True, **changed)  # type: ignore[arg-type]
        assert training_memory(SHAPE, train, workers=3).ema == 4 * TRAINED


def test_auto_selects_the_cpu_on_a_system_without_accelerator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "DEVICES", tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert [cost.on_cpu(device) for device in ("cpu", "auto", "gpu", "ascend")] == [True, True, False, False]
    (tmp_path / "davinci0").touch()
    assert [cost.on_cpu(device) for device in ("cpu", "auto")] == [True, False]
